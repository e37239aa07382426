"""The scale of risk, against its definition and its promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_nndyn.predictor.policy import Policy
from lightning_nndyn.predictor.risk import HeldOutScores, RiskScale, max_risk_per_run


def test_risk_is_on_the_scale_of_the_other_good_runs() -> None:
    rng = np.random.default_rng(0)
    low = np.arange(40) >= 25
    held = [HeldOutScores("weights", np.arange(40), rng.normal(size=40)) for _ in range(3)]
    largest = max_risk_per_run(held, low, np.zeros(40, bool))
    for run in (0, 7, 24):
        others = [i for i in range(25) if i != run]
        scales = [RiskScale.from_good_runs(said.values[others]) for said in held]
        expected = max(scale(said.values[run]) for scale, said in zip(scales, held, strict=True))
        assert largest[run] == pytest.approx(expected)
    assert largest[30] == pytest.approx(
        max(RiskScale.from_good_runs(said.values[:25])(said.values[30]) for said in held)
    )


def test_a_run_that_diverged_has_the_largest_risk_and_an_unread_one_none() -> None:
    held = [HeldOutScores("weights", np.array([0, 1]), np.array([0.0, 1.0]))]
    largest = max_risk_per_run(held, np.zeros(4, bool), np.array([False, False, True, False]))
    assert largest[2] == 1e6 and largest[3] == -math.inf


@pytest.mark.slow
def test_the_promise_holds_for_the_scale_too() -> None:
    """Scale and threshold come from the same good runs; a new one still exceeds it no more often."""
    rng = np.random.default_rng(0)
    stopped, draws, n = 0, 3000, 39
    for _ in range(draws):
        values = rng.normal(size=(4, n + 1)) * np.array([[1], [3], [0.2], [10]])
        held = [HeldOutScores("weights", np.arange(n), row[:-1]) for row in values]
        maxima = max_risk_per_run(held, np.zeros(n, bool), np.zeros(n, bool))
        bar = Policy({"weights": [maxima.tolist()]}, 0.1).risk_threshold("weights")
        new = max(RiskScale.from_good_runs(row[:-1])(row[-1]) for row in values)
        stopped += bar is not None and new > bar
    assert stopped / draws <= 0.1 + 3 * math.sqrt(0.09 / draws)
