"""Baselines that learn nothing from other runs: they read a run's own curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.evaluation.benchmark.method_features import snapshots_until

Formula = Callable[[RunRecord, float], float]

_EXPONENTS = np.linspace(0.1, 3, 30)
_LEAST_EPOCHS = 3  # numbers in a power law


def last_accuracy(record: RunRecord, time: float) -> float:
    """The test accuracy of the last finished epoch; NaN before the first."""
    known = _known(record, time)
    return known[-1] if known else math.nan


def best_accuracy(record: RunRecord, time: float) -> float:
    """The best test accuracy so far; NaN before the first epoch ends."""
    return max(_known(record, time), default=math.nan)


def power_law(record: RunRecord, time: float) -> float:
    """The run's own curve, continued to its last epoch by a power law fitted to it.

    Until there are three epochs, and where none fits, the best accuracy so far; NaN before the first.
    """
    known = _known(record, time)
    if len(known) < _LEAST_EPOCHS:
        return best_accuracy(record, time)
    return max(max(known), extrapolate(known, record.config["epochs"]))


def one_epoch(record: RunRecord, time: float) -> float:
    """The test accuracy after the first epoch: a rank, to keep the best few by; NaN before."""
    return _known(record, time)[0] if time >= 1 else math.nan


def loss_sum(record: RunRecord, time: float) -> float:
    """Minus the sum of the training losses so far, one an epoch: a rank."""
    until = len(snapshots_until(record, time))
    running = record.losses[until - 1][0] if time != int(time) else 0.0
    return -(sum(record.curve["train_loss"][: int(time)]) + running)


PREDICTIONS: dict[str, Formula] = {
    "last-accuracy": last_accuracy,
    "best-accuracy": best_accuracy,
    "power-law": power_law,
}
"""Formulas that give an accuracy."""

RANKS: dict[str, Formula] = {"one-epoch": one_epoch, "loss-sum": loss_sum}
"""Formulas that give a rank and no accuracy: larger is better."""


def extrapolate(curve: Sequence[float], epoch: int) -> float:
    """The value at an epoch (from 1) of ``c - a * e ** -b``, fitted to a curve by least squares.

    ``a`` and ``c`` are solved for each ``b`` of a grid; only rising curves (a > 0) whose limit is an accuracy
    (c <= 1) count. Where there is none, the last value of the curve.
    """
    epochs, values = np.arange(1, len(curve) + 1, dtype=np.float64), np.asarray(curve)
    best, found = math.inf, float(values[-1])
    for exponent in _EXPONENTS:
        design = np.column_stack((np.ones_like(epochs), -(epochs**-exponent)))
        (limit, fall), *_ = np.linalg.lstsq(design, values, rcond=None)
        error = float(((design @ (limit, fall) - values) ** 2).sum())
        if fall > 0 and limit <= 1 and error < best:
            best, found = error, float(limit - fall * epoch**-exponent)
    return min(max(found, 0.0), 1.0)


def _known(record: RunRecord, time: float) -> list[float]:
    return record.curve["test_accuracy"][: int(time)]
