"""The stopping threshold, against brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm, t

from lightning_nndyn.sweep.false_stop_budget import good_value, stop_threshold


def brute(
    scores: np.ndarray, chances: np.ndarray, good: np.ndarray, rate: float, weights: np.ndarray
) -> float:
    """The three conditions, one limit after the other."""
    lowest, counts = np.array([np.nanmin(row) for row in scores])[good], weights[good]
    total = counts.sum()
    if len(lowest) < 2 or not rate:
        return -np.inf
    shares = counts / total
    n = 1 / (shares**2).sum()
    mean = (shares * lowest).sum()
    variance = (5 + n * (shares * (lowest - mean) ** 2).sum()) / (n + 4)
    next_one = mean + t.ppf(rate, n + 4) * np.sqrt(variance * (1 + 1 / n))

    def allowed(limit: float) -> bool:
        cost = 0.0
        for row, chance, weight in zip(scores, chances, weights, strict=True):
            below = [weight * p for score, p in zip(row, chance, strict=True) if score < limit]
            cost += below[0] if below else 0
        stopped = counts[lowest < limit].sum()
        within = stopped <= rate * (total + 1) + 1e-9 and cost <= rate * total + 1e-9
        return limit <= next_one + 1e-12 and within

    known = scores[np.isfinite(scores)]
    return max((limit for limit in [*known, next_one] if allowed(limit)), default=-np.inf)


@pytest.mark.parametrize(("seed", "rate"), list(product(range(12), [0.02, 0.1, 0.3, 0.95])))
def test_the_limit_is_the_highest_that_three_conditions_allow(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(10, 60))
    good = rng.random(n) < 0.3
    good[:2] = True
    scores = rng.normal(size=(n, 3)) * rng.uniform(0.3, 2) - 1.5 * ~good[:, None]
    scores[rng.random((n, 3)) < 0.2] = np.nan
    scores[np.isnan(scores).all(axis=1), 0] = 0.0
    chances = norm.cdf(scores)
    ones = np.ones(n)
    found = stop_threshold(scores, chances, good, rate)
    assert found == pytest.approx(brute(scores, chances, good, rate, ones), abs=1e-9)
    weights = np.where(rng.random(n) < 0.2, 20.0, 1.0)
    found = stop_threshold(scores, chances, good, rate, weights)
    assert found == pytest.approx(brute(scores, chances, good, rate, weights), abs=1e-9)


def test_a_condemned_run_that_was_let_finish_well_speaks_for_those_that_were_stopped() -> None:
    """200 good runs, of which the budget of 5 % pays for ten: one that stands for twenty is too much."""
    scores = np.concatenate([np.linspace(1, 3, 200), np.full(100, -4.0), [-1.0]])[:, None]
    good = np.arange(301) != 250
    good[200:300] = False
    weights = np.ones(301)
    before = stop_threshold(scores, norm.cdf(scores), good, 0.05, weights)
    weights[300] = 20.0  # let finish with a probability of 5 %
    after = stop_threshold(scores, norm.cdf(scores), good, 0.05, weights)
    assert before > -1.0 >= after > -4.0


def test_without_a_budget_or_good_runs_nothing_is_stopped() -> None:
    scores = np.random.default_rng(0).normal(size=(20, 2))
    chances, good = norm.cdf(scores), np.arange(20) < 5
    assert stop_threshold(scores, chances, good, 0.0) == -np.inf
    assert stop_threshold(scores, chances, np.arange(20) < 1, 0.3) == -np.inf


def test_stopped_runs_raise_no_bar() -> None:
    values = np.arange(10.0)
    assert good_value(values, 0.2, 10) == 8 and good_value(values, 0.2, 20) == 6
    assert good_value(values, 0.25, 100) == 0 and good_value(values, 0.01, 10) == 9
