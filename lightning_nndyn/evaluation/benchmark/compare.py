"""All methods on the same runs and the same folds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.evaluation.benchmark.curve_baselines import PREDICTIONS, RANKS, Formula
from lightning_nndyn.evaluation.benchmark.learners import Learner
from lightning_nndyn.evaluation.benchmark.method_features import INPUTS, readable
from lightning_nndyn.evaluation.benchmark.scores import (
    PREDICTION_METRICS,
    RANK_METRICS,
    Outcome,
    Score,
    scored,
)
from lightning_nndyn.evaluation.benchmark.study import Array, Study

TIMES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0)
"""Times of decision, in epochs."""

BANDS = ("all", "trainable")
"""Runs that are scored together."""

FOLDS = 5
LEAST_RUNS = 20
_ABSENT = -60.0  # in place of a number that a run does not have: outside the range of all inputs


@dataclass(frozen=True)
class Row:
    """One number of the results.

    Attributes:
        corpus: where the runs come from.
        band: "all", or "trainable" for the runs that did not diverge and learned something; "without X" for
            runs on X, "from NAME" for runs of another corpus than the training runs.
        method: what predicts; of feature curves, whose they are: "mean-of-high", ...
        t: time of decision, in epochs.
        metric: "mae" (a fraction), "r2", "spearman", "accuracy" (of low or not), "auc", "importance of X" (a
            share of runs), or of feature curves a statistic's name.
        value: the number; None where it is not defined.
        low: lower end of its 95 % interval.
        high: upper end.
        runs: how many it rests on.
    """

    corpus: str
    band: str
    method: str
    t: float
    metric: str
    value: float | None
    low: float | None
    high: float | None
    runs: int

    @classmethod
    def of(cls, corpus: str, band: str, method: str, t: float, metric: str, score: Score, runs: int) -> Row:
        """A row of a score; numbers that are not defined become None."""
        value, low, high = (None if math.isnan(number) else round(number, 5) for number in score)
        return cls(corpus, band, method, t, metric, value, low, high, runs)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)


def compare(
    study: Study,
    *,
    methods: Sequence[str] | None = None,
    times: Sequence[float] = TIMES,
    repeats: int = 3,
    seed: int = 0,
    jobs: int = 1,
) -> Iterator[Row]:
    """Scores of all methods at all times, on held-out runs.

    Learned methods are cross-validated, `repeats` times with other folds, and a run's predictions averaged; a
    configuration is never on both sides. They are fitted to all runs, and scored on all and on the trainable
    ones apart.

    Args:
        study: the runs.
        methods: names from `METHODS`; None for all.
        times: of decision; those with fewer than 20 runs are left out.
        repeats: of the cross-validation.
        seed: of folds, learners and intervals.
        jobs: processes.

    Raises:
        KeyError: a method is unknown.
    """
    chosen = tuple(METHODS if methods is None else methods)
    tasks = [
        (study, METHODS[method], time, repeats, seed)
        for time in times
        if len(study.at(time)) >= LEAST_RUNS
        for method in chosen
    ]
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    for rows in parallel(joblib.delayed(_score)(*task) for task in tasks):
        yield from rows


@dataclass(frozen=True)
class Method:
    """A way to predict: learned from `inputs`, or a `formula` of a run's own curve."""

    name: str
    kind: str


METHODS: dict[str, Method] = {
    **{name: Method(name, "learned") for name in INPUTS},
    **{name: Method(name, "prediction") for name in PREDICTIONS},
    **{name: Method(name, "rank") for name in RANKS},
}


def _score(study: Study, method: Method, time: float, repeats: int, seed: int) -> list[Row]:
    places = study.at(time)
    predicted = _predictions(study, method, time, places, repeats, seed)
    known = ~np.isnan(predicted)
    places, predicted = places[known], predicted[known]
    metrics = RANK_METRICS if method.kind == "rank" else PREDICTION_METRICS
    return [
        row
        for band, wanted in banded(study, places)
        for row in _rows(study, band, method, time, places[wanted], predicted[wanted], metrics, seed)
    ]


def banded(study: Study, places: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each band with at least 20 of the runs at `places`, and which of these are in it; shape [n]."""
    for band, wanted in zip(BANDS, (np.ones(len(places), bool), study.trainable[places]), strict=True):
        if wanted.sum() >= LEAST_RUNS:
            yield band, wanted


def _rows(
    study: Study,
    band: str,
    method: Method,
    time: float,
    places: NDArray[np.int64],
    predicted: Array,
    metrics: dict[str, Callable[[Outcome], float]],
    seed: int,
) -> Iterator[Row]:
    runs = Outcome(study.accuracies[places], predicted, study.low[places], study.thresholds[places])
    for name, metric in metrics.items():
        score = scored(metric, runs, study.groups[places], seed)
        yield Row.of(study.name, band, method.name, time, name, score, len(places))


def _predictions(
    study: Study, method: Method, time: float, places: NDArray[np.int64], repeats: int, seed: int
) -> Array:
    """Of the runs at `places`; NaN where a method has nothing to go by yet."""
    if method.kind != "learned":
        return by_formula(study, method, time, places)
    records = [study.records[place] for place in places]
    if not readable(method.name, records, time):
        return np.full(len(places), np.nan)
    x = table([INPUTS[method.name](record, time) for record in records])
    y, groups = study.accuracies[places], study.groups[places]
    held_out = [cross_validated(x, y, groups, seed + repeat) for repeat in range(repeats)]
    return np.asarray(np.mean(held_out, axis=0))


def by_formula(study: Study, method: Method, time: float, places: NDArray[np.int64]) -> Array:
    """What a formula says of the runs at `places`."""
    formula: Formula = (PREDICTIONS | RANKS)[method.name]
    return np.array([formula(study.records[place], time) for place in places])


def table(rows: Sequence[Sequence[float]]) -> Array:
    """Rows as one array; shorter ones (of networks with fewer layers) are filled up."""
    width = max(map(len, rows))
    filled = [[*row, *[_ABSENT] * (width - len(row))] for row in rows]
    return np.nan_to_num(np.array(filled, dtype=np.float64), nan=_ABSENT, posinf=-_ABSENT, neginf=_ABSENT)


def cross_validated(x: Array, y: Array, groups: NDArray[np.int64], seed: int) -> Array:
    """Predictions [n] for rows [n, d], each by a learner that saw no run of its group."""
    predicted = np.empty(len(y))
    for test in folds(groups, seed):
        train = np.setdiff1d(np.arange(len(y)), test)
        predicted[test] = Learner(seed).fit(x[train], y[train]).predict(x[test])
    return predicted


def folds(groups: NDArray[np.int64], seed: int) -> list[NDArray[np.int64]]:
    """Rows of each fold: whole groups, dealt out in random order."""
    dealt = np.random.default_rng(seed).permutation(np.unique(groups))
    return [np.flatnonzero(np.isin(groups, dealt[fold::FOLDS])) for fold in range(FOLDS)]
