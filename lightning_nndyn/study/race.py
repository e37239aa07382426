"""A race: successive halving from within the first epoch.

All candidates are trained for a fraction of an epoch, the most promising for longer, and the best of these to
their end. They are ranked with each other, or by what a predictor says. At a rung a run is paused: it is
saved, and goes on from there if it is promoted, or when those that were promoted turn out worse.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from lightning_nndyn.callback.decision import predictor_name
from lightning_nndyn.errors import SweepError, renamed_arguments
from lightning_nndyn.predictor import Predictor, Verdict, load_predictor
from lightning_nndyn.predictor.policy import epochs_in_words
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES
from lightning_nndyn.study.race_checkpoints import RaceCheckpoints
from lightning_nndyn.study.race_journal import RungResult, open_journal
from lightning_nndyn.study.race_result import RUNGS, RaceResult, Rung
from lightning_nndyn.study.rung_callback import RungCallback

_MAX_FAILURES = 3  # if that many runs fail and none succeeds, the race ends
_MAX_OUT_OF_DOMAIN = 0.5  # share of a rung's runs outside of the predictor's domain: beyond, ranks are random
_MAX_ERROR_LENGTH = 500  # characters that are kept
_NOT_RESUMABLE = "You're resuming from a checkpoint that ended before the epoch ended"
_RESERVED = "action audit_share earlier_runs monitor predictor sweep trial".split()  # set by the race


TrainFunction = Callable[[dict[str, Any], Any], float]
"""Called with hyperparameters and a callback for its Trainer; trains one run and returns its final metric."""


@renamed_arguments(watch="on_update")
def race(
    train: TrainFunction,
    candidates: Sequence[Mapping[str, Any]],
    *,
    file: str | Path,
    predictor: str | Path | Predictor | None = None,
    monitor: str = "val_acc",
    rungs: Sequence[tuple[float, float]] = RUNGS,
    callback: Mapping[str, Any] | None = None,
    on_update: Callable[[RaceResult], None] = lambda result: None,
    keep_checkpoints: bool = False,
) -> RaceResult:
    """Find the best of many configurations by training nearly all of them for less than an epoch.

    All are trained for 1/16 epoch, the most promising half for 1/4, a quarter for one epoch, and the best 6 %
    to their end (`docs/results/sweeps.md` says what that costs and misses). There is no promise about good
    runs, unlike where the callback stops by risk.

    A run is paused at each rung. It goes on from a checkpoint if `train` gives ``callback.ckpt_path`` to
    ``trainer.fit(ckpt_path=...)``, and then ends as one that was never paused. Else it begins anew. In both
    cases `train` must train the same run for the same hyperparameters, so set the seed in it.

    A run that was left behind goes on when the others turn out worse: if one that was promoted fails or
    diverges, the next takes its place; and if none that has come to its end has reached the accuracy that a
    paused run had at its rung, the paused run is trained to its end, too.

    Without a predictor the candidates are ranked with each other (`lightning_nndyn.sweep.rank`): by their
    weights' movement, losses, accuracies and learning rates, whatever the network and the data.

    Args:
        train: called with hyperparameters and a callback for its Trainer; trains one run and returns its
            final accuracy, or another value of which larger is better. The callback ends the run at its rung.
        candidates: hyperparameters of each, JSON-able; two at least.
        file: keeps the result of each candidate at each rung, a JSON line each. Called again with the same
            file, the race goes on.
        predictor: one that was fitted to such networks and data, as for the callback; None to rank the
            candidates with each other, or, where no rung lies within the first epoch, by an accuracy alone.
        monitor: name of the logged metric that is the validation accuracy, a fraction; without a predictor
            any metric (``callback={"mode": "min"}`` where it falls and its name does not tell).
        rungs: pairs of epochs, rising, and the share of all candidates that goes on then, falling.
        callback: further arguments of `GraphDynamicsCallback`.
        on_update: called with the state of the race after each result.
        keep_checkpoints: whether the checkpoints of the paused runs stay when the race has ended, in the
            folder ``FILE.checkpoints``. As long as it runs they do, one for each candidate.

    Returns:
        The result: the best candidate, and how far each has come.

    Raises:
        ValueError: candidates (not JSON-able, fewer than two), rungs or `callback` cannot be used.
        PredictorError: the predictor cannot be loaded.
        SweepError: the file is of another race or cannot be used, the first three runs all fail, no candidate
            is left, most of the runs are outside of the predictor's domain, or the Trainer does not end them
            (`min_epochs`).
    """
    further = dict(callback or {})
    state = RaceResult([dict(params) for params in candidates], [Rung(*rung) for rung in rungs])
    _check_arguments(state, further)
    settings = {
        "candidates": state.candidates,
        "rungs": state.rungs,
        "predictor": predictor_name(predictor),
        "monitor": monitor,
    }
    loaded = load_predictor(predictor) if isinstance(predictor, (str, Path)) else predictor
    arguments = {"verbose": False, **further, "predictor": loaded, "monitor": monitor}
    arguments |= {"audit_share": 0.0, "earlier_runs": False}
    with open_journal(Path(file), settings) as journal:
        state = replace(state, results=journal.results)
        checkpoints = RaceCheckpoints(Path(file))
        for rung, candidate in _pending(state):
            result = _train(train, state, rung, candidate, arguments, checkpoints)
            journal.add(result)
            checkpoints.delete_before(candidate, rung + bool(result.failure))
            on_update(state)
            _check_failures(state, rung, file)
        if not keep_checkpoints:
            checkpoints.delete()
    if state.best is None:
        raise SweepError(f"no candidate has come to its end: {state.reason(0)}")
    return state


def _pending(state: RaceResult) -> Iterator[tuple[int, int]]:
    """Rungs and candidates that are still to be trained, one after the other.

    Raises:
        SweepError: see `_check_domain`.
    """
    for rung in range(len(state.rungs) + 1):
        while missing := [one for one in state.running(rung) if (rung, one) not in state.results]:
            yield rung, missing[0]
        if rung < len(state.rungs):
            _check_domain(state.ranking(rung))


def _train(
    train: TrainFunction,
    state: RaceResult,
    rung: int,
    candidate: int,
    arguments: Mapping[str, Any],
    checkpoints: RaceCheckpoints,
) -> RungResult:
    end = state.rungs[rung].epochs if rung < len(state.rungs) else None
    save_to = None if end is None else checkpoints.path(candidate, rung)
    callback = RungCallback(end, checkpoints.latest(candidate, rung), save_to, **arguments)
    begin = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _NOT_RESUMABLE)  # the callback resumes the loaders
            value = float(train(dict(state.candidates[candidate]), callback))
    except Exception as error:  # the others go on
        return RungResult(candidate, rung, failure=f"{type(error).__name__}: {error}"[:_MAX_ERROR_LENGTH])
    _check_end(callback, end)
    by_metric = state.rungs[0].epochs >= 1 and not callback.falls
    compared = end is not None and arguments["predictor"] is None and not by_metric
    verdict = None if callback.diverged else callback.verdict
    return RungResult(
        candidate,
        rung,
        predicted=_predicted_accuracy(verdict),
        best_accuracy=callback.best_accuracy,
        value=value if end is None else None,
        failure="has diverged: weights are not finite" if callback.diverged else "",
        out_of_domain=verdict.note if verdict is not None and not verdict.in_domain else "",
        seconds=round(time.perf_counter() - begin, 3),
        readings=callback.readings if compared else (),
    )


def _predicted_accuracy(verdict: Verdict | None) -> float | None:
    if verdict is None:
        return None
    relative = verdict.relative_accuracy
    return verdict.predicted_accuracy if relative is None else relative


# -- checks --------------------------------------------------------------------------------------------------


def _check_arguments(state: RaceResult, further: Mapping[str, Any]) -> None:
    if len(state.candidates) < 2:
        raise ValueError(f"candidates holds {len(state.candidates)}: a race needs two at least")
    epochs, shares = [rung.epochs for rung in state.rungs], [rung.keep for rung in state.rungs]
    falling = all(share > later for share, later in pairwise(shares))
    rising = all(end < later for end, later in pairwise(epochs))
    if not (epochs and rising and falling and all(0 < share < 1 for share in shares)):
        raise ValueError(
            f"rungs={[tuple(rung) for rung in state.rungs]}: give pairs of epochs, rising, and of the share "
            "that goes on, falling and between 0 and 1, such as [(0.0625, 0.5), (0.25, 0.25), (1, 0.06)]"
        )
    for name in _RESERVED:
        if name in further:
            raise ValueError(f"callback holds {name}={further[name]!r}: that is the race's own")
    _check_times(epochs, further.get("snapshots"))


def _check_times(epochs: Sequence[float], snapshots: Sequence[float] | None) -> None:
    """Refuse rungs at times at which the weights are not read."""
    for end in epochs:
        whole = end >= 1 and end == int(end)
        if end not in snapshots if snapshots is not None else not (whole or end in DEFAULT_TIMES):
            times = snapshots if snapshots is not None else [*DEFAULT_TIMES, "each epoch's end"]
            raise ValueError(
                f"rungs: weights are not read after {end:g} epochs, but at {', '.join(map(str, times))}; "
                "take one of these, or give callback={'snapshots': [...]}"
            )


def _check_end(callback: RungCallback, end: float | None) -> None:
    """Refuse a `train` that a race cannot use.

    Raises:
        SweepError: it did not use its callback, or its Trainer did not end the run at the rung.
    """
    if not callback.history:
        raise SweepError(
            "nothing was read of a run: `train` must give its callback to the Trainer, and train"
        )
    if end is not None and callback.went_on:
        raise SweepError(
            f"a rung of {epochs_in_words(end)} went on to {epochs_in_words(callback.time)} "
            f"({callback.decision.reason}): let `train` set no min_epochs or min_steps"
        )


def _check_failures(state: RaceResult, rung: int, file: str | Path) -> None:
    """Refuse to go on where all that are trained to a rung fail.

    Raises:
        SweepError: see above.
    """
    results = [result for (reached, _), result in state.results.items() if reached == rung]
    failed = len(results) if all(result.failure for result in results) else 0
    first = rung == 0 and failed == _MAX_FAILURES
    if first or (rung > 0 and failed >= max(_MAX_FAILURES, state.keep_count(rung - 1))):
        where = "first" if rung == 0 else "promoted"
        raise SweepError(
            f"all of the {where} {failed} runs failed, the last with {results[-1].failure}; mend that, "
            f"and delete {file} to begin anew"
        )


def _check_domain(results: Sequence[RungResult]) -> None:
    """Refuse to rank by a predictor that does not apply.

    Raises:
        SweepError: more than half of a rung's runs are outside of its domain.
    """
    outside = [result for result in results if result.out_of_domain]
    if outside and len(outside) > _MAX_OUT_OF_DOMAIN * len(results):
        raise SweepError(
            f"the predictor does not know {len(outside)} of {len(results)} runs ({outside[0].out_of_domain}) "
            "and would rank them at random: give predictor= one that was fitted to such runs, or None to "
            "rank them with each other"
        )
