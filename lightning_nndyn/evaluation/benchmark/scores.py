"""Metrics of predictions, each with a 95 % interval, and rows of them: the form of all published results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lightning_nndyn.evaluation.dataset import Indices, RunDataset
from lightning_nndyn.signature.snapshot import Array, Mask

_RESAMPLES = 300
_INTERVAL = (2.5, 97.5)  # percentiles


class Score(NamedTuple):
    """A number and the ends of its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float


class Predictions(NamedTuple):
    """Predictions for runs, with the truth.

    Attributes:
        truth: best accuracies, fractions; shape [n].
        predicted: accuracies, or ranks or decision values, larger is better; shape [n].
        low: whether a run is truly low; shape [n].
        thresholds: a prediction below it calls the run low; shape [n].
    """

    truth: Array
    predicted: Array
    low: Mask
    thresholds: Array

    @classmethod
    def for_runs(cls, runs: RunDataset, indices: Indices, predicted: Array) -> Predictions:
        """Predicted accuracies [n] for the runs at `indices` [n]."""
        return cls(runs.accuracies[indices], predicted, runs.low[indices], runs.thresholds[indices])

    def take(self, rows: Indices | Mask) -> Predictions:
        """Some of the runs."""
        return Predictions(self.truth[rows], self.predicted[rows], self.low[rows], self.thresholds[rows])


Metric = Callable[[Predictions], float]


def mae(runs: Predictions) -> float:
    """Mean absolute error, a fraction."""
    return float(np.abs(runs.predicted - runs.truth).mean())


def r2(runs: Predictions) -> float:
    """Coefficient of determination; negative where the mean would be the better prediction."""
    scatter = float(((runs.truth - runs.truth.mean()) ** 2).sum())
    return 1 - float(((runs.predicted - runs.truth) ** 2).sum()) / scatter if scatter else math.nan


def spearman(runs: Predictions) -> float:
    """Rank correlation; 0 for predictions that are all the same."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) - (len(runs.truth) + 1) / 2 for values in (runs.truth, runs.predicted)]
    lengths = [math.sqrt(float(rank @ rank)) for rank in ranks]
    if not lengths[0]:
        return math.nan
    return float(ranks[0] @ ranks[1]) / (lengths[0] * lengths[1]) if lengths[1] else 0.0


def accuracy(runs: Predictions) -> float:
    """Share of runs that are correctly called low or not."""
    return float(((runs.predicted < runs.thresholds) == runs.low).mean())


def auc(runs: Predictions) -> float:
    """Area under the ROC curve for telling low runs from the others."""
    from scipy.stats import rankdata

    low, good = int(runs.low.sum()), int((~runs.low).sum())
    if not (low and good):
        return math.nan
    ranks = rankdata(-runs.predicted)
    return float((ranks[runs.low].sum() - low * (low + 1) / 2) / (low * good))


PREDICTION_METRICS: dict[str, Metric] = {
    "mae": mae, "r2": r2, "spearman": spearman, "accuracy": accuracy, "auc": auc,
}  # fmt: skip
RANK_METRICS = {name: PREDICTION_METRICS[name] for name in ("spearman", "auc")}


def bootstrapped(metric: Metric, runs: Predictions, groups: Indices, seed: int) -> Score:
    """A metric with a bootstrap interval.

    Configurations are drawn with all of their runs: runs of one configuration are not independent.

    Args:
        metric: computed on all runs and on each resample.
        runs: n predictions.
        groups: the configuration of each run; shape [n].
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    values = []
    for _ in range(_RESAMPLES):
        drawn = random.integers(len(members), size=len(members))
        values.append(metric(runs.take(np.concatenate([members[group] for group in drawn]))))
    known = [value for value in values if not math.isnan(value)]
    low, high = np.percentile(known, _INTERVAL) if known else (math.nan, math.nan)
    return Score(metric(runs), float(low), float(high))


def share_score(hits: Mask) -> Score:
    """A share, with the exact binomial interval of Clopper and Pearson."""
    from scipy.stats import binomtest

    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95)
    return Score(float(hits.mean()), float(interval.low), float(interval.high))


def mean_score(values: Array) -> Score:
    """A mean, with its normal interval."""
    mean, half = float(values.mean()), 1.96 * float(values.std()) / np.sqrt(len(values))
    return Score(mean, float(mean - half), float(mean + half))


def repeated_score(values: Sequence[float]) -> Score:
    """The mean of repeated measurements, with the range of the middle 95 %."""
    low, high = np.percentile(values, _INTERVAL)
    return Score(float(np.mean(values)), float(low), float(high))


BANDS = ("all", "trainable")
"""Sets of runs that are scored together: all of a corpus, or those that `RunDataset.trainable` names."""

_DIGITS = 5


@dataclass(frozen=True)
class Row:
    """One number of the results.

    Attributes:
        corpus: where the runs come from.
        band: "all", or "trainable" for the runs that did not diverge and learned something; "without X" for
            runs on X, "from NAME" for runs of another corpus than the training runs.
        method: the method that predicts; of feature curves the runs that are averaged: "mean-of-high", ...
        t: decision time, in epochs.
        metric: "mae" (a fraction), "r2", "spearman", "accuracy" (of low or not), "auc", "importance of X" (a
            share of runs), or of feature curves a statistic's name.
        value: the number; None where it is not defined.
        low: lower end of its 95 % interval.
        high: upper end.
        runs: number of runs that it rests on.
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
    def from_score(
        cls, corpus: str, band: str, method: str, t: float, metric: str, score: Score, runs: int
    ) -> Row:
        """A row with a score; numbers that are not defined become None, as JSON has no NaN."""
        value, low, high = (None if math.isnan(number) else round(number, _DIGITS) for number in score)
        return cls(corpus, band, method, t, metric, value, low, high, runs)


def select(rows: Iterable[Row], **fields: Any) -> list[Row]:
    """The rows whose fields have these values."""
    return [row for row in rows if all(getattr(row, name) == value for name, value in fields.items())]


def distinct(rows: Iterable[Row], *fields: str) -> list[Any]:
    """The values of a field, or tuples of those of several, each once, in the order of the rows."""
    values = (tuple(getattr(row, name) for name in fields) for row in rows)
    return [value if len(fields) > 1 else value[0] for value in dict.fromkeys(values)]
