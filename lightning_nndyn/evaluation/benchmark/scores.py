"""How good predictions are, with intervals that say how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.evaluation.benchmark.study import Array

Mask = NDArray[np.bool_]
_RESAMPLES = 300
_LEVEL = (2.5, 97.5)


class Score(NamedTuple):
    """A metric's value, and the 95 % interval of a bootstrap over configurations; NaN where undefined."""

    value: float
    low: float
    high: float


class Outcome(NamedTuple):
    """Runs of an evaluation: truth [n], predictions or ranks [n], whether the truth is low [n]."""

    truth: Array
    predicted: Array
    low: Mask
    thresholds: Array

    def take(self, rows: NDArray[np.int64]) -> Outcome:
        """Some of the runs."""
        return Outcome(self.truth[rows], self.predicted[rows], self.low[rows], self.thresholds[rows])


def mae(runs: Outcome) -> float:
    """Mean absolute error, a fraction."""
    return float(np.abs(runs.predicted - runs.truth).mean())


def r2(runs: Outcome) -> float:
    """Share of the variance that is explained; negative where the mean is the better prediction."""
    scatter = float(((runs.truth - runs.truth.mean()) ** 2).sum())
    return 1 - float(((runs.predicted - runs.truth) ** 2).sum()) / scatter if scatter else math.nan


def spearman(runs: Outcome) -> float:
    """Rank correlation; 0 for predictions that are all the same."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) - (len(runs.truth) + 1) / 2 for values in (runs.truth, runs.predicted)]
    lengths = [math.sqrt(float(rank @ rank)) for rank in ranks]
    if not lengths[0]:
        return math.nan
    return float(ranks[0] @ ranks[1]) / (lengths[0] * lengths[1]) if lengths[1] else 0.0


def accuracy(runs: Outcome) -> float:
    """Share of runs that are rightly called low or not, by the predicted accuracy and the threshold."""
    return float(((runs.predicted < runs.thresholds) == runs.low).mean())


def auc(runs: Outcome) -> float:
    """Area under the ROC of telling low runs by their predictions."""
    from scipy.stats import rankdata

    low, good = int(runs.low.sum()), int((~runs.low).sum())
    if not (low and good):
        return math.nan
    ranks = rankdata(-runs.predicted)
    return float((ranks[runs.low].sum() - low * (low + 1) / 2) / (low * good))


PREDICTION_METRICS: dict[str, Callable[[Outcome], float]] = {
    "mae": mae, "r2": r2, "spearman": spearman, "accuracy": accuracy, "auc": auc,
}  # fmt: skip
RANK_METRICS = {name: PREDICTION_METRICS[name] for name in ("spearman", "auc")}


def scored(metric: Callable[[Outcome], float], runs: Outcome, groups: NDArray[np.int64], seed: int) -> Score:
    """A metric with its interval: configurations are drawn again and again, with all of their runs."""
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    values = []
    for _ in range(_RESAMPLES):
        drawn = random.integers(len(members), size=len(members))
        values.append(metric(runs.take(np.concatenate([members[place] for place in drawn]))))
    known = [value for value in values if not math.isnan(value)]
    low, high = np.percentile(known, _LEVEL) if known else (math.nan, math.nan)
    return Score(metric(runs), float(low), float(high))
