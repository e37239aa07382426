"""Our own decisions about recorded runs, each by a predictor that was fitted without the run.

They rest on a run's own snapshots and curve: the order in which the runs of a sweep come does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lightning_nndyn.evaluation.benchmark.false_stop_rates import (
    Course,
    fitted_without,
    follow,
    held_out_folds,
    joined,
)
from lightning_nndyn.evaluation.benchmark.tables import epochs_text
from lightning_nndyn.evaluation.dataset import Collection
from lightning_nndyn.evaluation.replay.entrants import RACED_SHARES
from lightning_nndyn.evaluation.replay.policies import BestShare, Decided, SweepPolicy
from lightning_nndyn.evaluation.replay.race import EARLY, LONG, Race
from lightning_nndyn.predictor import Predictor
from lightning_nndyn.predictor.policy import Policy

KINDS = {"weights": "weights", "fused": "weights and curve"}
"""What the predictors' kinds of models are called in the tables."""

RATES = (0.02, 0.05, 0.1, 0.2, 0.3)
"""Shares of good runs that may be stopped; 5 % is the callback's default."""

RANKED = (1 / 16, 1 / 4)
"""After how many epochs runs are ranked once by their predicted accuracy."""

TIMES = tuple(sorted({*RANKED, *(after for after, _ in (*EARLY, *LONG))}))
"""After how many epochs predictions are wanted."""

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Of the best-looking runs that go on."""

UNKNOWN = "universal"
"""What a predictor is called that knows other networks and data, not these."""

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
        "scores": {kind: _scores(courses) for kind, courses in said.items()},
    }


def judge_unknown(corpora: Sequence[Collection], number: int, seed: int = 0) -> Fold:
    """What is said of a corpus' runs by a predictor fitted to all the others.

    Args:
        corpora: all there are, of different networks or data.
        number: of the corpus, from 0.
        seed: of the forests.
    """
    union, own = joined(corpora), corpora[number]
    first = sum(len(one.records) for one in corpora[:number])
    predictor = fitted_without(union, np.arange(first, first + len(own.records)), seed)
    places = map(str, range(len(own.records)))
    return {"scores": _scores(dict(zip(places, follow(predictor, own, "fused"), strict=True)))}


def _scores(courses: dict[str, Course]) -> dict[str, dict[str, float]]:
    return {str(time): {place: _score(course, time) for place, course in courses.items()} for time in TIMES}


def _stops(predictor: Predictor, rate: float, courses: dict[str, Course]) -> dict[str, float]:
    policy = Policy.from_predictor(predictor, max_false_stop_rate=rate)
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
    """Stopping by risk within a false-stop rate, keeping the runs with the highest predictions, and races."""
    for kind, name in KINDS.items():
        for rate in RATES:
            stops = _joined(fold["stops"][kind][str(rate)] for fold in folds)
            yield Decided(stops, f"{name}, false stops up to", f"{100 * rate:g} %")
        scores = {time: _joined(fold["scores"][kind][str(time)] for fold in folds) for time in TIMES}
        for time in RANKED:
            family = f"{name} after {epochs_text(time)}, then the best"
            for share in SHARES:
                yield BestShare(share, time, scores[time], family, ours=True)
        yield from _races(scores, name)


def unknown_policies(said: Fold | None) -> Iterator[SweepPolicy]:
    """Races by a predictor that was fitted to other corpora, see `judge_unknown`; none without it."""
    if said is None:
        return
    scores = {time: _joined(iter([said["scores"][str(time)]])) for time in TIMES}
    yield from _races(scores, UNKNOWN)


def _races(scores: dict[float, dict[int, float]], name: str) -> Iterator[SweepPolicy]:
    for kind, rungs in {"race": EARLY, "long race": LONG}.items():
        for share in RACED_SHARES:
            yield Race(share, rungs, scores, f"{kind} by {name}, keeping", anew=True)


def _joined(parts: Iterator[dict[str, float]]) -> dict[int, float]:
    return {int(place): value for part in parts for place, value in part.items()}
