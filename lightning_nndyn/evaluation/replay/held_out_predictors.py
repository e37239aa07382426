"""Stopping rules of this package's predictors, each fitted without the run that it judges.

A predictor's verdicts rest on a run's own snapshots and curve, so that they do not depend on the order of a
sweep.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from lightning_nndyn.evaluation.benchmark.judged_runs import (
    UNIVERSAL,
    JudgedRun,
    fit_without,
    held_out_folds,
    judge,
)
from lightning_nndyn.evaluation.cache import Part
from lightning_nndyn.evaluation.dataset import RunDataset, concatenate
from lightning_nndyn.evaluation.markdown import epochs_text
from lightning_nndyn.evaluation.replay.policies import (
    RACED_SHARES,
    TOP_SHARES,
    BestShare,
    Decided,
    SweepPolicy,
)
from lightning_nndyn.evaluation.replay.race import EARLY, LONG, Race
from lightning_nndyn.predictor.policy import Policy

KINDS = {"weights": "weights", "fused": "weights and curve"}
"""Kinds of models, and their names in the tables."""

RATES = (0.02, 0.05, 0.1, 0.2, 0.3)
"""False-stop rates; 5 % is the callback's default."""

RANKED = (1 / 16, 1 / 4)
"""Epochs after which runs are ranked once by their predicted accuracy."""

TIMES = tuple(sorted({*RANKED, *(after for after, _ in (*EARLY, *LONG))}))
"""Epochs after which predictions are needed."""


def judge_fold(runs: RunDataset, number: int, seed: int = 0) -> Part:
    """Decisions on and predictions for one of five folds, by a predictor fitted to the others.

    Args:
        runs: of a corpus.
        number: of the fold, from 0.
        seed: of folds and forests.

    Returns:
        `stops` (epochs) by kind and rate, and `scores` (predicted accuracies) by kind and time, each by the
        run's index.

    Raises:
        PredictorError: too few runs of one class.
    """
    test = held_out_folds(runs, seed)[number]
    predictor, held_out = fit_without(runs, test, seed), runs.take(test)
    policies = {str(rate): Policy.from_predictor(predictor, max_false_stop_rate=rate) for rate in RATES}
    stops, scores = {}, {}
    for kind in KINDS:
        judged = dict(zip(map(str, test), judge(predictor, held_out, kind), strict=True))
        scores[kind] = _scores(judged)
        stops[kind] = {
            rate: {
                index: decision.epoch
                for index, run in judged.items()
                if (decision := policy.decide(run.verdicts)).stop
            }
            for rate, policy in policies.items()
        }
    return {"stops": stops, "scores": scores}


def judge_unknown(corpora: Sequence[RunDataset], number: int, seed: int = 0) -> Part:
    """Predictions for a corpus, by a predictor fitted to all the others; `scores` as in `judge_fold`.

    Args:
        corpora: all there are, of different networks or data.
        number: of the corpus, from 0.
        seed: of the forests.
    """
    union, own = concatenate(corpora, UNIVERSAL), corpora[number]
    first = sum(len(runs.records) for runs in corpora[:number])
    predictor = fit_without(union, np.arange(first, first + len(own.records)), seed)
    indices = map(str, range(len(own.records)))
    return {"scores": _scores(dict(zip(indices, judge(predictor, own, "fused"), strict=True)))}


def _scores(judged: Mapping[str, JudgedRun]) -> dict[str, dict[str, float]]:
    return {str(time): {index: _score(run, time) for index, run in judged.items()} for time in TIMES}


def _score(run: JudgedRun, time: float) -> float:
    """The last prediction by then; infinite for a run without a verdict, so that it continues."""
    known = [verdict for verdict in run.verdicts if verdict.epoch <= time]
    if not known:
        return math.inf
    relative = known[-1].relative_accuracy
    return known[-1].predicted_accuracy if relative is None else relative


def held_out_policies(folds: Sequence[Part]) -> Iterator[SweepPolicy]:
    """Stopping by risk within a false-stop rate, ranking once by predictions, and races, by kind of models.

    Args:
        folds: all parts of `judge_fold`.
    """
    for kind, name in KINDS.items():
        for rate in RATES:
            stops = _merged(fold["stops"][kind][str(rate)] for fold in folds)
            yield Decided(stops, f"{name}, false stops up to", f"{100 * rate:g} %")
        scores = {time: _merged(fold["scores"][kind][str(time)] for fold in folds) for time in TIMES}
        for time in RANKED:
            family = f"{name} after {epochs_text(time)}, then the best"
            for share in TOP_SHARES:
                yield BestShare(share, time, scores[time], family, ours=True)
        yield from _races(scores, name)


def unknown_policies(part: Part) -> Iterator[SweepPolicy]:
    """Races by a predictor that was fitted to other corpora, see `judge_unknown`."""
    yield from _races({time: _merged([part["scores"][str(time)]]) for time in TIMES}, UNIVERSAL)


def _races(scores: dict[float, dict[int, float]], name: str) -> Iterator[SweepPolicy]:
    for kind, rungs in {"race": EARLY, "long race": LONG}.items():
        for share in RACED_SHARES:
            yield Race(share, rungs, scores, f"{kind} by {name}, keeping", anew=True)


def _merged(parts: Iterable[Mapping[str, float]]) -> dict[int, float]:
    return {int(index): value for part in parts for index, value in part.items()}
