"""Runs a race, and goes on with one that was cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from lightning_nndyn.callback.decision import name_of
from lightning_nndyn.errors import SweepError
from lightning_nndyn.predictor import Predictor, Verdict, load_predictor
from lightning_nndyn.predictor.policy import epochs_in_words
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES
from lightning_nndyn.study.race.callback import LapCallback
from lightning_nndyn.study.race.journal import open_journal
from lightning_nndyn.study.race.standing import Lap, Rung
from lightning_nndyn.study.race.state import Race

Train = Callable[[dict[str, Any], Any], float]

RUNGS = (Rung(1 / 16, 0.5), Rung(1 / 4, 0.25), Rung(1.0, 0.06))
"""Half of all go on after a sixteenth of the first epoch, a quarter after a quarter of it, 6 % after it."""

_FAILURES = 3
_STRANGERS = 0.5  # share of a lap's runs that the predictor does not know, from which on it ranks at random
_LONGEST = 500  # characters of an error that are kept
_OURS = ("action", "audit_share", "monitor", "predictor", "sweep", "trial")


def race(
    train: Train,
    candidates: Sequence[Mapping[str, Any]],
    *,
    file: str | Path,
    predictor: str | Path | Predictor | None,
    monitor: str = "val_acc",
    rungs: Sequence[tuple[float, float]] = RUNGS,
    callback: Mapping[str, Any] | None = None,
    watch: Callable[[Race], None] = lambda race: None,
) -> Race:
    """Finds the best of many configurations by training nearly all of them hardly at all.

    All are trained for 1/16 epoch, the half with the best predicted final accuracy for 1/4, a quarter for one
    epoch, and the best 6 % to their end (`docs/replay.md` says what that costs and misses). Each lap begins
    anew: nothing is asked of `train` but that it trains the same run for the same hyperparameters, seed
    included. No promise is made about good runs, unlike where the callback stops by risk.

    Args:
        train: called with hyperparameters and a callback for its Trainer; trains one run and returns the
            accuracy that it has ended with. The callback ends the run where its lap is over.
        candidates: hyperparameters of each, JSON-able; two at least.
        file: where each finished lap is kept, a JSON line each. Called again with the same file, the race
            goes on.
        predictor: one that knows such networks and data, as for the callback; None to rank by `monitor`
            alone, at rungs after whole epochs.
        monitor: name of the logged metric that is the validation accuracy, a fraction.
        rungs: pairs of epochs and the share of all candidates that goes on then: epochs rise, shares fall.
        callback: further arguments of `GraphDynamicsCallback`.
        watch: called with the race after each lap of a candidate.

    Returns:
        The race: its best candidate, and how far each has come.

    Raises:
        ValueError: candidates (not JSON-able, fewer than two), rungs or `callback` cannot be used.
        PredictorError: the predictor cannot be loaded.
        SweepError: the file is of another race or cannot be used, the first three runs all fail, no candidate
            is left, the predictor does not know most of the runs, or the Trainer does not end them
            (`min_epochs`).
    """
    further = dict(callback or {})
    known = Race([dict(one) for one in candidates], [Rung(*rung) for rung in rungs])
    _check(known, predictor, further)
    settings = {
        "candidates": known.candidates,
        "rungs": known.rungs,
        "predictor": name_of(predictor),
        "monitor": monitor,
    }
    loaded = load_predictor(predictor) if isinstance(predictor, (str, Path)) else predictor
    arguments = {"verbose": False, "audit_share": 0.0, **further, "predictor": loaded, "monitor": monitor}
    with open_journal(Path(file), settings) as journal:
        found = Race(known.candidates, known.rungs, journal.laps)
        for number, candidate in _due(found):
            journal.add(_run(train, found, number, candidate, arguments))
            watch(found)
            _check_failures(found, file)
    if found.best is None:
        raise SweepError(f"no candidate has come to its end: {found.reason(0)}")
    return found


def _due(race: Race) -> Iterator[tuple[int, int]]:
    """Laps and candidates, one after the other; what has been done is passed over.

    Raises:
        SweepError: see `_check_strangers`.
    """
    for number in range(len(race.rungs) + 1):
        for candidate in race.running(number):
            if (number, candidate) not in race.laps:
                yield number, candidate
        if number < len(race.rungs):
            _check_strangers(race.standing(number))


def _run(train: Train, race: Race, number: int, candidate: int, arguments: Mapping[str, Any]) -> Lap:
    until = race.rungs[number].epochs if number < len(race.rungs) else None
    watched = LapCallback(until, **arguments)
    begin = time.perf_counter()
    try:
        value = float(train(dict(race.candidates[candidate]), watched))
    except Exception as error:  # the others go on
        return Lap(candidate, number, out=f"{type(error).__name__}: {error}"[:_LONGEST])
    _check_end(watched, until)
    verdict = None if watched.diverged else watched.verdict
    return Lap(
        candidate,
        number,
        predicted=_predicted(verdict),
        seen=watched.seen,
        value=value if until is None else None,
        out="has diverged: weights are not finite" if watched.diverged else "",
        strange=verdict.note if verdict is not None and not verdict.in_domain else "",
        seconds=round(time.perf_counter() - begin, 3),
    )


def _predicted(verdict: Verdict | None) -> float | None:
    if verdict is None:
        return None
    relative = verdict.relative_accuracy
    return verdict.predicted_accuracy if relative is None else relative


# -- checks --------------------------------------------------------------------------------------------------


def _check(race: Race, predictor: Any, further: Mapping[str, Any]) -> None:
    if len(race.candidates) < 2:
        raise ValueError(f"candidates holds {len(race.candidates)}: a race needs two at least")
    epochs, shares = [rung.epochs for rung in race.rungs], [rung.keep for rung in race.rungs]
    falling = all(one > other for one, other in pairwise(shares))
    rising = all(one < other for one, other in pairwise(epochs))
    if not (epochs and rising and falling and all(0 < share < 1 for share in shares)):
        raise ValueError(
            f"rungs={[tuple(rung) for rung in race.rungs]}: give pairs of epochs, rising, and of the share "
            "that goes on, falling and between 0 and 1, such as [(0.0625, 0.5), (0.25, 0.25), (1, 0.06)]"
        )
    for name in _OURS:
        if name in further:
            raise ValueError(f"callback holds {name}={further[name]!r}: that is the race's own")
    _check_times(epochs, further.get("snapshots"))
    if predictor is None and epochs[0] < 1:
        raise ValueError(
            f"rungs begin after {epochs[0]:g} epochs, when there is nothing to rank by without a predictor: "
            "give one, or rungs after whole epochs"
        )


def _check_times(epochs: Sequence[float], snapshots: Sequence[float] | None) -> None:
    for end in epochs:
        whole = end >= 1 and end == int(end)
        if end not in snapshots if snapshots is not None else not (whole or end in DEFAULT_TIMES):
            times = snapshots if snapshots is not None else [*DEFAULT_TIMES, "each epoch's end"]
            raise ValueError(
                f"rungs: weights are not read after {end:g} epochs, but at {', '.join(map(str, times))}; "
                "take one of these, or give callback={'snapshots': [...]}"
            )


def _check_end(callback: LapCallback, until: float | None) -> None:
    """Refuses to go on with a `train` that does not do what a race needs.

    Raises:
        SweepError: it did not use its callback, or its Trainer did not end the run with the lap.
    """
    if not callback.history:
        raise SweepError(
            "nothing was read of a run: `train` must give its callback to the Trainer, and train"
        )
    if until is not None and callback.time > until:
        raise SweepError(
            f"a lap of {epochs_in_words(until)} went on to {epochs_in_words(callback.time)} "
            f"({callback.decision.reason}): let `train` set no min_epochs or min_steps"
        )


def _check_failures(race: Race, file: str | Path) -> None:
    first = [lap for (number, _), lap in race.laps.items() if number == 0][:_FAILURES]
    if len(race.laps) == _FAILURES == len(first) and all(lap.out for lap in first):
        raise SweepError(
            f"all of the first {_FAILURES} runs failed, the last with {first[-1].out}; mend that, and delete "
            f"{file} to begin anew"
        )


def _check_strangers(laps: Sequence[Lap]) -> None:
    """Refuses to rank by a predictor that does not know what it speaks of.

    Raises:
        SweepError: that is so for more than half of a lap's runs.
    """
    strange = [lap for lap in laps if lap.strange]
    if strange and len(strange) > _STRANGERS * len(laps):
        raise SweepError(
            f"the predictor does not know {len(strange)} of {len(laps)} runs ({strange[0].strange}), and "
            "would rank them at random: give predictor= one that was fitted to such runs, or None and rungs "
            "after whole epochs"
        )
