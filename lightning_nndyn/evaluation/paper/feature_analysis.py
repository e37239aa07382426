"""The paper's App. A.3: which statistics classifiers rely on, and how these run for high and low runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import joblib
import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.evaluation.benchmark.compare import LEAST_RUNS, Row, folds
from lightning_nndyn.evaluation.benchmark.scores import Outcome, scored
from lightning_nndyn.evaluation.benchmark.study import Array, Study
from lightning_nndyn.evaluation.paper.classification import fitted
from lightning_nndyn.evaluation.paper.features import Setting, epochs_read, signatures
from lightning_nndyn.signature.snapshot import STATISTICS

IMPORTANCE_TIMES = (1.0, 5.0, 15.0)
"""Times of decision at which importance is measured, in epochs."""

ANALYSED: dict[str, Setting] = {
    setting.name: setting for setting in (Setting("svm", "both"), Setting("mlp", "both"))
}
"""Classifiers that read all ten statistics."""

IMPORTANCE = "importance of "
"""Metric of a row, before the statistic's name."""

CURVES: dict[str, tuple[Callable[[Array], float], bool]] = {
    "mean-of-high": (lambda values: float(np.mean(values)), False),
    "mean-of-low": (lambda values: float(np.mean(values)), True),
    "median-of-high": (lambda values: float(np.median(values)), False),
    "median-of-low": (lambda values: float(np.median(values)), True),
}
"""What is told of a statistic's values, and whether of low runs; by the method of the rows."""

_SHUFFLES = 20
_LEAST_OF_A_CLASS = 5


def importance(study: Study, settings: Sequence[Setting], *, seed: int, jobs: int) -> Iterator[Row]:
    """How much more a classifier errs on held-out runs when one statistic is another run's, at all epochs.

    Permutation importance (Breiman, 2001): a share of runs, the mean of 20 shuffles within each fold.
    """
    times = [time for time in IMPORTANCE_TIMES if len(study.at(time)) >= LEAST_RUNS]
    tasks = [(study, setting, time, seed) for setting in settings for time in times]
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    for rows in parallel(joblib.delayed(_importance)(*task) for task in tasks):
        yield from rows


def curves(study: Study, names: Sequence[str], *, times: Sequence[float], seed: int) -> Iterator[Row]:
    """Means and medians of each statistic over high and over low runs, before training and at times."""
    for time in (0.0, *times):
        places = study.at(time)
        for name in names:
            own = places[study.low[places] == CURVES[name][1]]
            if len(own) >= _LEAST_OF_A_CLASS:
                yield from _curve(study, name, time, own, seed)


def _curve(study: Study, name: str, time: float, places: NDArray[np.int64], seed: int) -> Iterator[Row]:
    told = CURVES[name][0]
    values = np.array([_statistics_at(study, place, time) for place in places])
    for column, statistic in enumerate(STATISTICS):
        runs = _as_outcome(values[:, column])
        score = scored(lambda some: told(some.predicted), runs, study.groups[places], seed)
        yield Row.of(study.name, "all", name, time, statistic, score, len(places))


def _statistics_at(study: Study, place: int, time: float) -> tuple[float, ...]:
    return next(one.statistics for one in study.records[place].snapshots if one.epoch == time)


def _importance(study: Study, setting: Setting, time: float, seed: int) -> list[Row]:
    places = study.at(time)
    lost = _lost(study, setting, time, places, seed)
    scores = [
        scored(lambda runs: float(runs.predicted.mean()), _as_outcome(column), study.groups[places], seed)
        for column in lost.T
    ]
    return [
        Row.of(study.name, "all", setting.name, time, IMPORTANCE + statistic, score, len(places))
        for statistic, score in zip(STATISTICS, scores, strict=True)
    ]


def _lost(study: Study, setting: Setting, time: float, places: NDArray[np.int64], seed: int) -> Array:
    """Of each run and statistic the share of shuffles that made a right call wrong, less the reverse."""
    epochs = epochs_read([study.records[place] for place in places], time)
    x, low = signatures(study, places, epochs, setting.features, setting.form), study.low[places]
    lost = np.zeros((len(places), len(STATISTICS)))
    random = np.random.default_rng(seed)
    for test in folds(study.groups[places], seed):
        train = np.setdiff1d(np.arange(len(places)), test)
        decide = fitted(setting.classifier, x[train], low[train], seed)
        right = (decide(x[test]) > 0) == low[test]
        for column in range(len(STATISTICS)):
            shuffles = decide(_shuffled(x[test], column, random)).reshape(_SHUFFLES, -1) > 0
            lost[test, column] = right - (shuffles == low[test]).mean(axis=0)
    return lost


def _shuffled(x: Array, column: int, random: np.random.Generator) -> Array:
    """Rows [n, d] shuffle after shuffle: the statistic of that place is another row's, at all snapshots."""
    changed = np.tile(x.reshape(len(x), -1, len(STATISTICS)), (_SHUFFLES, 1, 1, 1))
    for one in changed:
        one[:, :, column] = one[random.permutation(len(x)), :, column]
    return changed.reshape(_SHUFFLES * len(x), -1)


def _as_outcome(values: Array) -> Outcome:
    """Numbers [n] in the form that `scored` resamples."""
    return Outcome(values, values, np.zeros(len(values), bool), values)
