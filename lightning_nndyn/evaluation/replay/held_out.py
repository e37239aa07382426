"""Our own decisions about recorded runs, each by a predictor that was fitted without the run.

They rest on a run's own snapshots and curve: the order in which the runs of a sweep come does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from lightning_nndyn.evaluation.collection import Collection
from lightning_nndyn.evaluation.replay.policies import BestShare, Decided, SweepPolicy
from lightning_nndyn.evaluation.results import epochs_text
from lightning_nndyn.evaluation.trust import Course, fitted_without, follow, held_out_folds
from lightning_nndyn.policy import Policy
from lightning_nndyn.predictor import Predictor

KINDS = {"weights": "weights", "fused": "weights and curve"}
"""What the predictors' kinds of models are called in the tables."""

RATES = (0.02, 0.05, 0.1, 0.2, 0.3)
"""Shares of good runs that may be stopped; 5 % is the callback's default."""

TIMES = (1 / 16, 1 / 4)
"""After how many epochs runs are ranked by their predicted accuracy."""

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Of the best-looking runs that go on."""

Fold = dict[str, Any]
"""JSON-able: `stops` by kind and rate, `scores` by kind and time, each by the run's place."""


def judge_fold(collection: Collection, number: int, seed: int = 0) -> Fold:
    """What is said of the runs of one of five folds, by a predictor fitted to the others.

    Args:
        collection: all runs.
        number: of the fold, from 0.
        seed: of folds and forests.

    Raises:
        PredictorError: too few runs of one class.
    """
    test = held_out_folds(collection, seed)[number]
    predictor = fitted_without(collection, test, seed)
    held, places = collection.take(test), [str(place) for place in test]
    said = {kind: dict(zip(places, follow(predictor, held, kind), strict=True)) for kind in KINDS}
    return {
        "stops": {
            kind: {str(rate): _stops(predictor, rate, courses) for rate in RATES}
            for kind, courses in said.items()
        },
        "scores": {
            kind: {
                str(time): {place: _score(course, time) for place, course in courses.items()}
                for time in TIMES
            }
            for kind, courses in said.items()
        },
    }


def _stops(predictor: Predictor, rate: float, courses: dict[str, Course]) -> dict[str, float]:
    policy = Policy.of(predictor, max_false_stop_rate=rate)
    decisions = {place: policy.decide(course.verdicts) for place, course in courses.items()}
    return {place: decision.epoch for place, decision in decisions.items() if decision.stop}


def _score(course: Course, time: float) -> float:
    """The share of the best accuracy predicted last by then; a run of which nothing is known goes on."""
    known = [verdict for verdict in course.verdicts if verdict.epoch <= time]
    if not known:
        return math.inf
    relative = known[-1].relative_accuracy
    return known[-1].predicted_accuracy if relative is None else relative


def held_out_policies(folds: Sequence[Fold]) -> Iterator[SweepPolicy]:
    """Stopping by risk within a false-stop rate, and keeping the runs with the highest predictions."""
    for kind, name in KINDS.items():
        for rate in RATES:
            stops = _joined(fold["stops"][kind][str(rate)] for fold in folds)
            yield Decided(stops, f"{name}, false stops up to", f"{100 * rate:g} %")
        for time in TIMES:
            scores = _joined(fold["scores"][kind][str(time)] for fold in folds)
            family = f"{name} after {epochs_text(time)}, then the best"
            for share in SHARES:
                yield BestShare(share, time, scores, family, ours=True)


def _joined(parts: Iterator[dict[str, float]]) -> dict[int, float]:
    return {int(place): value for part in parts for place, value in part.items()}
