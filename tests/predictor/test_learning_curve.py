"""Learning curves: in units of guessing, bounded, known as far as they reach."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import LearningCurve
from lightning_nndyn.predictor.learning_curve import curve_row, linear_row, linear_width


def test_curves_are_read_in_units_of_guessing() -> None:
    """Losses of guessing are 1, accuracies of guessing 0, whatever the number of classes."""
    for classes in (2, 10, 100):
        guess = math.log(classes)
        curve = LearningCurve({0.5: (guess, guess), 1.0: (guess, guess / 2)}, [1 / classes], classes)
        row = curve_row(curve, (0.5, 1.0))
        np.testing.assert_allclose(row, [1, 1, 1, 0.5, -0.5, -0.5, 0, 0, 0, 0], atol=1e-12)
        assert len(linear_row(curve, (0.5, 1.0))) == linear_width((0.5, 1.0)) == 4
        assert len(linear_row(curve, (0.5,))) == linear_width((0.5,)) == 0


def test_curves_stay_bounded_where_a_loss_explodes() -> None:
    curve = LearningCurve({1.0: (1e30, 1e30)}, [0.1], 10)
    assert np.abs(curve_row(curve, (1.0,))).max() <= 5


def test_a_curve_is_known_as_far_as_it_reaches() -> None:
    curve = LearningCurve({0.5: (2.0, 2.0), 1.0: (2.0, 1.9), 2.0: (1.8, 1.7)}, [0.3], 10)
    assert curve.known((0.5,)) and curve.known((0.5, 1.0))
    assert not curve.known((1.0, 2.0))  # no second accuracy yet
    assert not curve.known((0.25, 0.5))
    assert not LearningCurve({1.0: (math.nan, math.nan)}, [0.3], 10).known((1.0,))
    with pytest.raises(PredictorError, match="classes=1"):
        LearningCurve(classes=1)
