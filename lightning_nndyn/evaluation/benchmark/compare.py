"""All methods on the same runs and the same folds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import joblib
import numpy as np

from lightning_nndyn.errors import renamed_arguments
from lightning_nndyn.evaluation.benchmark.curve_baselines import PREDICTIONS, RANKS
from lightning_nndyn.evaluation.benchmark.learners import Learner
from lightning_nndyn.evaluation.benchmark.method_features import FEATURES, readable
from lightning_nndyn.evaluation.benchmark.rows import BANDS, Row
from lightning_nndyn.evaluation.benchmark.scores import (
    PREDICTION_METRICS,
    RANK_METRICS,
    Predictions,
    bootstrapped,
)
from lightning_nndyn.evaluation.dataset import Indices, RunDataset
from lightning_nndyn.signature.snapshot import Array, Mask

TIMES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0)
"""Decision times, in epochs."""

NUM_FOLDS = 5
MIN_RUNS = 20
"""Fewer runs are not scored."""

_ABSENT = -60.0  # stands for a number that a run does not have: outside the range of all features


@dataclass(frozen=True)
class Method:
    """A way to predict: learned from features of other runs, or a formula of the run's own curve."""

    name: str
    kind: Literal["learned", "prediction", "rank"]


METHODS: dict[str, Method] = {
    **{name: Method(name, "learned") for name in FEATURES},
    **{name: Method(name, "prediction") for name in PREDICTIONS},
    **{name: Method(name, "rank") for name in RANKS},
}


@renamed_arguments(study="runs")
def compare(
    runs: RunDataset,
    *,
    methods: Sequence[str] | None = None,
    times: Sequence[float] = TIMES,
    repeats: int = 3,
    seed: int = 0,
    jobs: int = 1,
) -> Iterator[Row]:
    """Score all methods at all times, on held-out runs.

    Learned methods are cross-validated `repeats` times with different folds, and a run's predictions are
    averaged. All runs of a configuration are in one fold. Methods are fitted to all runs, and scored on all
    and, separately, on the trainable ones.

    Args:
        runs: of one corpus.
        methods: names from `METHODS`; None for all.
        times: decision times; those with fewer than 20 runs are left out.
        repeats: number of cross-validations.
        seed: of folds, learners and intervals.
        jobs: number of processes.

    Raises:
        KeyError: a method is unknown.
    """
    chosen = tuple(METHODS if methods is None else methods)
    tasks = [
        (runs, METHODS[method], time, repeats, seed)
        for time in times
        if len(runs.at(time)) >= MIN_RUNS
        for method in chosen
    ]
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    for rows in parallel(joblib.delayed(_rows)(*task) for task in tasks):
        yield from rows


def _rows(runs: RunDataset, method: Method, time: float, repeats: int, seed: int) -> list[Row]:
    indices = runs.at(time)
    predicted = _held_out_predictions(runs, method, time, indices, repeats, seed)
    known = ~np.isnan(predicted)
    indices, predicted = indices[known], predicted[known]
    rows = []
    for band, members in bands(runs, indices):
        chosen = indices[members]
        predictions = Predictions.for_runs(runs, chosen, predicted[members])
        for name, metric in (RANK_METRICS if method.kind == "rank" else PREDICTION_METRICS).items():
            score = bootstrapped(metric, predictions, runs.groups[chosen], seed)
            rows.append(Row.from_score(runs.name, band, method.name, time, name, score, len(chosen)))
    return rows


def bands(runs: RunDataset, indices: Indices) -> Iterator[tuple[str, Mask]]:
    """Each band with enough of the runs at `indices` [n], and which of these are in it; shape [n]."""
    for band, members in zip(BANDS, (np.ones(len(indices), bool), runs.trainable[indices]), strict=True):
        if members.sum() >= MIN_RUNS:
            yield band, members


def _held_out_predictions(
    runs: RunDataset, method: Method, time: float, indices: Indices, repeats: int, seed: int
) -> Array:
    """For the runs at `indices`, shape [n]; NaN where a method cannot predict yet."""
    if method.kind != "learned":
        return formula_values(runs, method, time, indices)
    x = method_features(runs, method, time, indices)
    if x is None:
        return np.full(len(indices), np.nan)
    y, groups = runs.accuracies[indices], runs.groups[indices]
    held_out = [cross_validated(x, y, groups, seed + repeat) for repeat in range(repeats)]
    return np.asarray(np.mean(held_out, axis=0))


def formula_values(runs: RunDataset, method: Method, time: float, indices: Indices) -> Array:
    """A formula's values for the runs at `indices`, shape [n]; NaN where it is not defined yet."""
    formula = (PREDICTIONS | RANKS)[method.name]
    return np.array([formula(runs.records[index], time) for index in indices])


def method_features(runs: RunDataset, method: Method, time: float, indices: Indices) -> Array | None:
    """Features [n, d] of the runs at `indices`; None where a corpus file does not have them any more."""
    records = [runs.records[index] for index in indices]
    if not readable(method.name, records, time):
        return None
    return padded([FEATURES[method.name](record, time) for record in records])


def padded(rows: Sequence[Sequence[float]]) -> Array:
    """Rows as one array; shorter rows (of networks with fewer layers) are filled up."""
    width = max(map(len, rows))
    filled = [[*row, *[_ABSENT] * (width - len(row))] for row in rows]
    return np.nan_to_num(np.array(filled, dtype=np.float64), nan=_ABSENT, posinf=-_ABSENT, neginf=_ABSENT)


def cross_validated(x: Array, y: Array, groups: Indices, seed: int) -> Array:
    """Predictions [n] for rows [n, d], each by a learner that saw no run of the row's group."""
    predicted = np.empty(len(y))
    for test in folds(groups, seed):
        train = np.setdiff1d(np.arange(len(y)), test)
        predicted[test] = Learner(seed).fit(x[train], y[train]).predict(x[test])
    return predicted


def folds(groups: Indices, seed: int) -> list[Indices]:
    """The rows of each of five folds: whole groups, assigned in random order."""
    order = np.random.default_rng(seed).permutation(np.unique(groups))
    return [np.flatnonzero(np.isin(groups, order[fold::NUM_FOLDS])) for fold in range(NUM_FOLDS)]
