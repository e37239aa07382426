"""The stopping threshold, against brute force."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import norm, t

from lightning_nndyn.sweep.false_stop_budget import agreed_scores, good_value, stop_threshold


def brute(
    scores: np.ndarray,
    chances: np.ndarray,
    good: np.ndarray,
    rate: float,
    weights: np.ndarray,
    stopped_before: int | None = None,
) -> float:
    """The conditions, one limit after the other."""
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
        return limit <= next_one + 1e-12 and within and affordable(limit)

    def affordable(limit: float) -> bool:
        if stopped_before is None:
            return True
        below = [bool(g) for g, row in zip(good, scores, strict=True) if np.nanmin(row) < limit]
        unseen = max(1 / (len(lowest) + 2), math.exp(min(0.0, limit - min(lowest)) / 6))
        return (stopped_before + 1) * (sum(below) + unseen) / (len(below) + 1) <= rate * (
            len(lowest) + 1
        ) + 1e-9

    known = scores[np.isfinite(scores)]
    return max((limit for limit in [*known, next_one] if allowed(limit)), default=-np.inf)


@pytest.mark.parametrize(("seed", "rate"), list(product(range(12), [0.02, 0.1, 0.3, 0.95])))
def test_the_limit_is_the_highest_that_all_conditions_allow(seed: int, rate: float) -> None:
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
    for stopped in (0, 1, n // 2):
        found = stop_threshold(scores, chances, good, rate, num_stopped=stopped)
        assert found == pytest.approx(brute(scores, chances, good, rate, ones, stopped), abs=1e-9)
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


def test_a_score_counts_as_the_better_one_of_two_readings_in_turn() -> None:
    nan = np.nan
    scores = np.array([[0.0, -1, -3, -2], [-5, -4, nan, -6], [-1, nan, nan, nan], [-2, nan, -3, 1]])
    expected = np.array([[nan, 0, -1, -2], [nan, -4, nan, -4], [-1, nan, nan, nan], [nan, nan, -2, 1]])
    np.testing.assert_array_equal(agreed_scores(scores), expected)
    np.testing.assert_array_equal(agreed_scores(scores[:, :1]), scores[:, :1])


def test_stopped_runs_raise_no_bar() -> None:
    values = np.arange(10.0)
    assert good_value(values, 0.2, 10) == 8 and good_value(values, 0.2, 20) == 6
    assert good_value(values, 0.25, 100) == 0 and good_value(values, 0.01, 10) == 9
