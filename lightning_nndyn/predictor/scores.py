"""Scores of predictions for runs that were held out of the fit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.signature.snapshot import Array, Mask

_FEWEST_RUNS = 10


def held_out_scores(low: Mask, p_low: Array, accuracies: Array, predicted: Array) -> dict[str, Any]:
    """Score held-out predictions at one decision time.

    Args:
        low: shape [n], whether a run's final accuracy is low.
        p_low: shape [n], the predicted probability of that.
        accuracies: shape [n], final accuracies, fractions.
        predicted: shape [n], predicted final accuracies.

    Returns:
        `runs` and `low`, counts; `accuracy` of the classes at p_low > 0.5, and `majority`, that of always
        naming the more frequent class; `mae`; `r2`; `spearman`, None if predictions or truth do not vary.
    """
    return {
        "runs": len(low),
        "low": int(low.sum()),
        "accuracy": float(((p_low > 0.5) == low).mean()),
        "majority": float(max(low.mean(), 1 - low.mean())),
        "mae": float(np.abs(predicted - accuracies).mean()),
        "r2": _r2(accuracies, predicted),
        "spearman": _spearman(accuracies, predicted),
    }


def mean_rank_correlation(truth: Array, predicted: Array, populations: NDArray[np.str_]) -> float:
    """Mean of Spearman's rank correlation within populations, weighted by their size.

    Populations of less than ten runs do not count; 0 if none does.

    Args:
        truth: shape [n].
        predicted: shape [n].
        populations: of each run, shape [n].
    """
    total, count = 0.0, 0
    for population in np.unique(populations):
        members = populations == population
        if members.sum() < _FEWEST_RUNS:
            continue
        correlation = _spearman(truth[members], predicted[members])
        if correlation is not None:
            total, count = total + correlation * members.sum(), count + members.sum()
    return total / count if count else 0.0


def _r2(truth: Array, predicted: Array) -> float | None:
    scatter = float(((truth - truth.mean()) ** 2).sum())
    return 1.0 - float(((truth - predicted) ** 2).sum()) / scatter if scatter else None


def _spearman(truth: Array, predicted: Array) -> float | None:
    from scipy.stats import rankdata

    rank = [rankdata(values) - (len(truth) + 1) / 2 for values in (truth, predicted)]
    length = math.sqrt(float((rank[0] ** 2).sum()) * float((rank[1] ** 2).sum()))
    return float(rank[0] @ rank[1]) / length if length else None
