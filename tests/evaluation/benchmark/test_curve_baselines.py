"""Formulas of a run's own learning curve."""

import math

import pytest

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.evaluation.benchmark.curve_baselines import (
    extrapolate,
    last_accuracy,
    loss_sum,
    one_epoch,
    power_law,
)


def test_a_power_law_is_continued_exactly() -> None:
    curve = [0.8 - 0.6 * epoch**-1.0 for epoch in range(1, 8)]
    assert extrapolate(curve, 50) == pytest.approx(0.8 - 0.6 / 50, abs=1e-6)
    assert extrapolate([0.5, 0.4, 0.3], 50) == 0.3  # falls: nothing to continue
    assert extrapolate([0.1, 0.1, 0.1], 50) == pytest.approx(0.1)


def test_formulas_read_no_later_than_they_may(records: list[RunRecord]) -> None:
    record = records[-4]
    curve = record.curve["test_accuracy"]
    assert math.isnan(last_accuracy(record, 0.5)) and math.isnan(power_law(record, 0.25))
    assert last_accuracy(record, 2.0) == curve[1] and one_epoch(record, 3.0) == curve[0]
    assert loss_sum(record, 0.25) == -record.losses[3][0]
    assert loss_sum(record, 2.0) == pytest.approx(-sum(record.curve["train_loss"][:2]))
    assert power_law(record, 2.0) == max(curve[:2])
