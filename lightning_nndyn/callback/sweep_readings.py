"""What a sweep knows of a run, from the run's record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import FINISHED, RUNNING, STOPPED
from lightning_nndyn.sweep import SweepReading, SweepRun


def sweep_run(
    record: Record, sign: float, status: str = RUNNING, hparams: Mapping[str, Any] | None = None
) -> SweepRun:
    """A recorded run, as it is compared with others by its weights, curve and learning rate.

    Args:
        record: of a run from its start.
        sign: 1 where large values of the monitored metric are good, -1 where small ones are.
        status: how it has ended.
        hparams: its hyperparameters, beside its learning rate and optimizer.
    """
    of = record.training
    known = {"learning_rate": of.learning_rate, "optimizer": of.optimizer}
    return SweepRun(
        {**{name: value for name, value in known.items() if value is not None}, **(hparams or {})},
        sweep_readings(record, sign, with_predictions=False),
        best_value(record.accuracies, sign) if status == FINISHED else None,
        status == STOPPED,
        planned_epochs=of.planned_epochs,
    )


def best_value(values: Sequence[float], sign: float) -> float | None:
    """The best of a metric's values; None where none is finite."""
    return max(filter(math.isfinite, values), key=lambda value: sign * value, default=None)


def sweep_readings(
    record: Record, sign: float, *, after: float = 0.0, with_predictions: bool = True
) -> list[SweepReading]:
    """The readings at the times of a record's snapshots.

    Args:
        record: of a run from its start.
        sign: 1 where large values of the monitored metric are good, -1 where small ones are.
        after: of earlier snapshots nothing is wanted.
        with_predictions: whether what a predictor has said goes along.
    """
    values = [sign * value for value in record.accuracies]
    # The value before training is not known, as it may be any metric: the first one stands for it.
    curve = record.curve_of(values, start=next(filter(math.isfinite, values), math.nan))
    prior = {}
    if with_predictions:
        prior = {verdict.epoch: verdict.relative_accuracy for verdict in record.verdicts}
    return [
        SweepReading.of(record.history[: index + 1], curve, prior.get(snapshot.epoch))
        for index, snapshot in enumerate(record.history)
        if snapshot.epoch > after
    ]
