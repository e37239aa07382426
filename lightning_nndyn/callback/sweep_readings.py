"""What a sweep knows of a run, from the run's record."""

from __future__ import annotations

import math

from lightning_nndyn.callback.record import Record
from lightning_nndyn.sweep import SweepReading


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
