"""The paper's App. A.3: the statistics that classifiers rely on, and their curves for high and low runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from lightning_nndyn.evaluation.benchmark.compare import MIN_RUNS, folds, scored
from lightning_nndyn.evaluation.benchmark.scores import Predictions, Row
from lightning_nndyn.evaluation.dataset import Indices, RunDataset
from lightning_nndyn.evaluation.paper.classification import fitted
from lightning_nndyn.evaluation.paper.features import Setting, epochs_read, signatures
from lightning_nndyn.signature.snapshot import STATISTICS, Array

IMPORTANCE_TIMES = (1.0, 5.0, 15.0)
"""Decision times at which importance is measured, in epochs."""

ANALYSED: dict[str, Setting] = {
    setting.name: setting for setting in (Setting("svm", "both"), Setting("mlp", "both"))
}
"""Classifiers on all ten statistics, by name."""

IMPORTANCE = "importance of "
"""Metric of a row, before the statistic's name."""

CURVES: dict[str, tuple[Callable[[Array], Any], bool]] = {
    "mean-of-high": (np.mean, False),
    "mean-of-low": (np.mean, True),
    "median-of-high": (np.median, False),
    "median-of-low": (np.median, True),
}
"""By the method of the rows: a summary of a statistic's values, and whether it is of low runs."""

_SHUFFLES = 20
_MIN_OF_A_CLASS = 5


def importance(runs: RunDataset, settings: Sequence[Setting], *, seed: int) -> Iterator[Row]:
    """Permutation importance (Breiman, 2001) of each statistic, at all epochs together.

    It is the share of held-out runs that are classified wrongly in addition when the statistic is taken from
    another run: the mean of 20 shuffles within each fold.
    """
    for setting in settings:
        for time in IMPORTANCE_TIMES:
            indices = runs.at(time)
            if len(indices) >= MIN_RUNS:
                lost = _lost(runs, setting, time, indices, seed)
                yield from _rows(runs, indices, setting.name, time, lost, np.mean, IMPORTANCE, seed)


def curves(runs: RunDataset, names: Sequence[str], *, times: Sequence[float], seed: int) -> Iterator[Row]:
    """Means and medians of each statistic over high and over low runs, before training and at times."""
    for time in (0.0, *times):
        indices = runs.at(time)
        for name in names:
            own = indices[runs.low[indices] == CURVES[name][1]]
            if len(own) >= _MIN_OF_A_CLASS:
                values = np.array([_statistics_at(runs, index, time) for index in own])
                yield from _rows(runs, own, name, time, values, CURVES[name][0], "", seed)


def _statistics_at(runs: RunDataset, index: int, time: float) -> tuple[float, ...]:
    return next(one.statistics for one in runs.records[index].snapshots if one.epoch == time)


def _rows(
    runs: RunDataset,
    indices: Indices,
    method: str,
    time: float,
    values: Array,
    summary: Callable[[Array], Any],
    prefix: str,
    seed: int,
) -> Iterator[Row]:
    """A summary of each statistic's values [n, 10]; the metric is the prefix and the statistic's name."""
    for statistic, own in zip(STATISTICS, values.T, strict=True):
        as_predictions = Predictions(own, own, np.zeros(len(own), bool), own)
        metrics = {prefix + statistic: lambda some: float(summary(some.predicted))}
        yield from scored(runs, indices, "all", method, time, as_predictions, metrics, seed)


def _lost(runs: RunDataset, setting: Setting, time: float, indices: Indices, seed: int) -> Array:
    """For each run and statistic the share of shuffles that make a correct decision wrong, less the reverse.

    Returns:
        Shape [n, 10].
    """
    epochs = epochs_read([runs.records[index] for index in indices], time)
    x, low = signatures(runs, indices, epochs, setting.features, setting.form), runs.low[indices]
    lost = np.zeros((len(indices), len(STATISTICS)))
    random = np.random.default_rng(seed)
    for test in folds(runs.groups[indices], seed):
        train = np.setdiff1d(np.arange(len(indices)), test)
        decide = fitted(setting.classifier, x[train], low[train], seed)
        correct = (decide(x[test]) > 0) == low[test]
        for column in range(len(STATISTICS)):
            decisions = decide(_shuffled(x[test], column, random)).reshape(_SHUFFLES, -1) > 0
            lost[test, column] = correct - (decisions == low[test]).mean(axis=0)
    return lost


def _shuffled(x: Array, column: int, random: np.random.Generator) -> Array:
    """Rows x [n, d] with one statistic taken from another row, at all snapshots; one copy for each shuffle.

    Returns:
        Shape [shuffles * n, d].
    """
    changed = np.tile(x.reshape(len(x), -1, len(STATISTICS)), (_SHUFFLES, 1, 1, 1))
    for copy in changed:
        copy[:, :, column] = copy[random.permutation(len(x)), :, column]
    return changed.reshape(_SHUFFLES * len(x), -1)
