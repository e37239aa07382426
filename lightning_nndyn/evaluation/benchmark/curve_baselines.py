"""Baselines that extrapolate a run's own learning curve, without learning from other runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.evaluation.benchmark.method_features import snapshots_until

Formula = Callable[[RunRecord, float], float]
"""From a run and the decision time, in epochs, to a number; NaN where it is not defined yet."""

_EXPONENTS = np.linspace(0.1, 3, 30)
_MIN_POINTS = 3  # as many as a power law has parameters


def last_accuracy(record: RunRecord, time: float) -> float:
    """The test accuracy of the last finished epoch; NaN before the first."""
    known = _known(record, time)
    return known[-1] if known else math.nan


def best_accuracy(record: RunRecord, time: float) -> float:
    """The best test accuracy so far; NaN before the first epoch ends."""
    return max(_known(record, time), default=math.nan)


def power_law(record: RunRecord, time: float) -> float:
    """The run's accuracies, extrapolated to its last epoch by a fitted power law.

    The best accuracy so far if that is higher, until three epochs have ended, and where no power law fits;
    NaN before the first epoch ends.
    """
    known = _known(record, time)
    if len(known) < _MIN_POINTS:
        return best_accuracy(record, time)
    return max(max(known), extrapolate(known, record.config["epochs"]))


def one_epoch(record: RunRecord, time: float) -> float:
    """The test accuracy after the first epoch, a rank; NaN before."""
    return _known(record, time)[0] if time >= 1 else math.nan


def loss_sum(record: RunRecord, time: float) -> float:
    """Minus the sum of the training losses so far, one for each epoch: a rank."""
    until = len(snapshots_until(record, time))
    running = record.losses[until - 1][0] if time != int(time) else 0.0
    return -(sum(record.curve["train_loss"][: int(time)]) + running)


PREDICTIONS: dict[str, Formula] = {
    "last-accuracy": last_accuracy,
    "best-accuracy": best_accuracy,
    "power-law": power_law,
}
"""Formulas for the final accuracy."""

RANKS: dict[str, Formula] = {"one-epoch": one_epoch, "loss-sum": loss_sum}
"""Formulas that only rank runs: larger is better."""


def extrapolate(accuracies: Sequence[float], epoch: int) -> float:
    """The value of ``c - a * e ** -b`` at an epoch, fitted to a curve by least squares.

    ``a`` and ``c`` are solved for each ``b`` of a grid. Only rising curves (a > 0) whose limit is an accuracy
    (c <= 1) count.

    Args:
        accuracies: after epochs 1, 2, ...
        epoch: where to evaluate, from 1.

    Returns:
        An accuracy in [0, 1]; the curve's last value where no power law fits.
    """
    epochs, values = np.arange(1, len(accuracies) + 1, dtype=np.float64), np.asarray(accuracies)
    least_error, value = math.inf, float(values[-1])
    for exponent in _EXPONENTS:
        design = np.column_stack((np.ones_like(epochs), -(epochs**-exponent)))
        (limit, drop), *_ = np.linalg.lstsq(design, values, rcond=None)
        error = float(((design @ (limit, drop) - values) ** 2).sum())
        if drop > 0 and limit <= 1 and error < least_error:
            least_error, value = error, float(limit - drop * epoch**-exponent)
    return min(max(value, 0.0), 1.0)


def _known(record: RunRecord, time: float) -> list[float]:
    return record.curve["test_accuracy"][: int(time)]
