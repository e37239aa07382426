"""Platt scaling against the sigmoid that made the data."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_nndyn.predictor.platt import fit_platt


def test_platt_recovers_a_sigmoid() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=40_000) * 3
    low = rng.random(40_000) < 1 / (1 + np.exp(-(1.5 * values - 1)))
    platt = fit_platt(values, low)
    assert platt.slope == pytest.approx(1.5, abs=0.05)
    assert platt.intercept == pytest.approx(-1, abs=0.05)


def test_platt_keeps_separated_classes_apart_from_one() -> None:
    """Probabilities that round to 1 would tie with each other at the policy's threshold."""
    values = np.linspace(-2, 2, 400)
    p = fit_platt(values, values > 0)(values)
    assert p.max() < 1
    assert (np.diff(p) > 0).all()


def test_platt_does_not_turn_the_ranking_round() -> None:
    values = np.linspace(-1, 1, 50)
    platt = fit_platt(values, values < 0)
    np.testing.assert_allclose(platt(values), 0.5, atol=1e-12)
