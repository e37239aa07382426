"""The benchmark of eight kinds of training: what the one line does with a regression."""

from __future__ import annotations

import logging

import pytest
from lightning_utilities.core import rank_zero

pytestmark = pytest.mark.needs("torchvision")


def test_a_regression_that_gets_nowhere_or_diverges_is_stopped_and_a_good_one_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import eight_kinds

    with caplog.at_level(logging.INFO, rank_zero.log.name):
        good, doomed, large = eight_kinds.run("regression", eight_kinds.KINDS["regression"])
    assert [row.rate for row in (good, doomed, large)] == ["good", "a millionth", "too large"]
    assert good.stopped is None and good.reached < doomed.reached
    assert doomed.stopped == 6 and "nor has the training loss" in doomed.reason
    assert large.stopped < 1 and "diverged" in large.reason and large.reached is None
    assert good.said.startswith("val_loss is no accuracy") and "record: " not in good.said
