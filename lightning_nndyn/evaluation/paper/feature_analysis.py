"""The paper's App. A.3: the statistics that classifiers rely on, and their curves for high and low runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import joblib
import numpy as np

from lightning_nndyn.evaluation.benchmark.compare import MIN_RUNS, folds
from lightning_nndyn.evaluation.benchmark.rows import Row
from lightning_nndyn.evaluation.benchmark.scores import Predictions, bootstrapped
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

CURVES: dict[str, tuple[Callable[[Array], float], bool]] = {
    "mean-of-high": (lambda values: float(np.mean(values)), False),
    "mean-of-low": (lambda values: float(np.mean(values)), True),
    "median-of-high": (lambda values: float(np.median(values)), False),
    "median-of-low": (lambda values: float(np.median(values)), True),
}
"""By the method of the rows: a summary of a statistic's values, and whether it is of low runs."""

_SHUFFLES = 20
_MIN_OF_A_CLASS = 5


def importance(runs: RunDataset, settings: Sequence[Setting], *, seed: int, jobs: int) -> Iterator[Row]:
    """Permutation importance (Breiman, 2001) of each statistic, at all epochs together.

    It is the share of held-out runs that are classified wrongly in addition when the statistic is taken from
    another run: the mean of 20 shuffles within each fold.
    """
    times = [time for time in IMPORTANCE_TIMES if len(runs.at(time)) >= MIN_RUNS]
    tasks = [(runs, setting, time, seed) for setting in settings for time in times]
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    for rows in parallel(joblib.delayed(_importance_rows)(*task) for task in tasks):
        yield from rows


def curves(runs: RunDataset, names: Sequence[str], *, times: Sequence[float], seed: int) -> Iterator[Row]:
    """Means and medians of each statistic over high and over low runs, before training and at times."""
    for time in (0.0, *times):
        indices = runs.at(time)
        for name in names:
            own = indices[runs.low[indices] == CURVES[name][1]]
            if len(own) >= _MIN_OF_A_CLASS:
                yield from _curve_rows(runs, name, time, own, seed)


def _curve_rows(runs: RunDataset, name: str, time: float, indices: Indices, seed: int) -> Iterator[Row]:
    summary = CURVES[name][0]
    values = np.array([_statistics_at(runs, index, time) for index in indices])
    for column, statistic in enumerate(STATISTICS):
        own = _as_predictions(values[:, column])
        score = bootstrapped(lambda some: summary(some.predicted), own, runs.groups[indices], seed)
        yield Row.from_score(runs.name, "all", name, time, statistic, score, len(indices))


def _statistics_at(runs: RunDataset, index: int, time: float) -> tuple[float, ...]:
    return next(one.statistics for one in runs.records[index].snapshots if one.epoch == time)


def _importance_rows(runs: RunDataset, setting: Setting, time: float, seed: int) -> list[Row]:
    indices = runs.at(time)
    rows = []
    for statistic, lost in zip(STATISTICS, _lost(runs, setting, time, indices, seed).T, strict=True):
        own = _as_predictions(lost)
        score = bootstrapped(lambda some: float(some.predicted.mean()), own, runs.groups[indices], seed)
        metric = IMPORTANCE + statistic
        rows.append(Row.from_score(runs.name, "all", setting.name, time, metric, score, len(indices)))
    return rows


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


def _as_predictions(values: Array) -> Predictions:
    """Numbers [n] in the form that `bootstrapped` resamples."""
    return Predictions(values, values, np.zeros(len(values), bool), values)
