"""All methods on the same runs and the same folds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from lightning_nndyn.errors import renamed_arguments
from lightning_nndyn.evaluation.benchmark.methods import (
    FEATURES,
    PREDICTIONS,
    RANKS,
    learned_predictions,
    readable,
)
from lightning_nndyn.evaluation.benchmark.scores import (
    BANDS,
    PREDICTION_METRICS,
    RANK_METRICS,
    Metric,
    Predictions,
    Row,
    bootstrapped,
)
from lightning_nndyn.evaluation.cache import in_processes
from lightning_nndyn.evaluation.dataset import Indices, RunDataset
from lightning_nndyn.signature.snapshot import Array, Mask

TIMES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0)
"""Decision times, in epochs."""

NUM_FOLDS = 5
MIN_RUNS = 20
"""Fewer runs are not scored."""

METHODS: dict[str, Mapping[str, Metric]] = {
    **dict.fromkeys([*FEATURES, *PREDICTIONS], PREDICTION_METRICS),
    **dict.fromkeys(RANKS, RANK_METRICS),
}
"""The metrics of each method: learned from `FEATURES` of other runs, or a formula of the run's own curve."""

_ABSENT = -60.0  # stands for a number that a run does not have: outside the range of all features


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
    tasks = [
        (runs, method, time, repeats, seed)
        for time in times
        if len(runs.at(time)) >= MIN_RUNS
        for method in (METHODS if methods is None else methods)
    ]
    for rows in in_processes(_rows, tasks, jobs):
        yield from rows


def _rows(runs: RunDataset, method: str, time: float, repeats: int, seed: int) -> list[Row]:
    indices = runs.at(time)
    predicted = _held_out_predictions(runs, method, time, indices, repeats, seed)
    known = ~np.isnan(predicted)
    predictions = Predictions.for_runs(runs, indices, predicted).take(known)
    return list(scored_by_band(runs, indices[known], method, time, predictions, METHODS[method], seed))


def scored_by_band(
    runs: RunDataset,
    indices: Indices,
    method: str,
    time: float,
    predictions: Predictions,
    metrics: Mapping[str, Metric],
    seed: int,
) -> Iterator[Row]:
    """A row for each metric and each band with enough of the runs at `indices`."""
    for band, members in bands(runs, indices):
        own = predictions.take(members)
        yield from scored(runs, indices[members], band, method, time, own, metrics, seed)


def bands(runs: RunDataset, indices: Indices) -> Iterator[tuple[str, Mask]]:
    """Each band with enough of the runs at `indices` [n], and which of these are in it; shape [n]."""
    for band, members in zip(BANDS, (np.ones(len(indices), bool), runs.trainable[indices]), strict=True):
        if members.sum() >= MIN_RUNS:
            yield band, members


def scored(
    runs: RunDataset,
    indices: Indices,
    band: str,
    method: str,
    time: float,
    predictions: Predictions,
    metrics: Mapping[str, Metric],
    seed: int,
) -> Iterator[Row]:
    """A row for each metric of the predictions for the runs at `indices`."""
    for name, metric in metrics.items():
        score = bootstrapped(metric, predictions, runs.groups[indices], seed)
        yield Row.from_score(runs.name, band, method, time, name, score, len(indices))


def _held_out_predictions(
    runs: RunDataset, method: str, time: float, indices: Indices, repeats: int, seed: int
) -> Array:
    """For the runs at `indices`, shape [n]; NaN where a method cannot predict yet."""
    if method not in FEATURES:
        return formula_values(runs, method, time, indices)
    x = method_features(runs, method, time, indices)
    if x is None:
        return np.full(len(indices), np.nan)
    y, groups = runs.accuracies[indices], runs.groups[indices]
    repeated = []
    for own in range(seed, seed + repeats):

        def predict(train: Indices, test: Indices, own: int = own) -> Array:
            return learned_predictions(x[train], y[train], x[test], own)

        repeated.append(cross_validated(groups, own, predict))
    return np.asarray(np.mean(repeated, axis=0))


def formula_values(runs: RunDataset, method: str, time: float, indices: Indices) -> Array:
    """A formula's values for the runs at `indices`, shape [n]; NaN where it is not defined yet."""
    formula = (PREDICTIONS | RANKS)[method]
    return np.array([formula(runs.records[index], time) for index in indices])


def method_features(runs: RunDataset, method: str, time: float, indices: Indices) -> Array | None:
    """Features [n, d] of the runs at `indices`; None where a corpus file does not have them any more."""
    records = [runs.records[index] for index in indices]
    if not readable(method, records, time):
        return None
    return padded([FEATURES[method](record, time) for record in records])


def padded(rows: Sequence[Sequence[float]]) -> Array:
    """Rows as one array; shorter rows (of networks with fewer layers) are filled up."""
    width = max(map(len, rows))
    filled = [[*row, *[_ABSENT] * (width - len(row))] for row in rows]
    return np.nan_to_num(np.array(filled, dtype=np.float64), nan=_ABSENT, posinf=-_ABSENT, neginf=_ABSENT)


def cross_validated(groups: Indices, seed: int, predict: Callable[[Indices, Indices], Array]) -> Array:
    """Predictions for all runs, shape [n].

    Args:
        groups: the configuration of each run, shape [n].
        seed: of the folds.
        predict: gives predictions for a fold, from the other folds' indices and its own.
    """
    predicted = np.empty(len(groups))
    for test in folds(groups, seed):
        predicted[test] = predict(np.setdiff1d(np.arange(len(groups)), test), test)
    return predicted


def folds(groups: Indices, seed: int) -> list[Indices]:
    """The rows of each of five folds: whole groups, assigned in random order."""
    order = np.random.default_rng(seed).permutation(np.unique(groups))
    return [np.flatnonzero(np.isin(groups, order[fold::NUM_FOLDS])) for fold in range(NUM_FOLDS)]
