"""Epochs of our ways over those of the others, at the same regret."""

import pytest

from lightning_nndyn.evaluation.cohort.frontier import (
    REGRETS,
    cheapest,
    default_ratio,
    frontier_ratio,
    geometric_mean,
)

OTHERS = [(0.4, 0.01), (0.2, 0.03), (0.6, 0.001)]


def test_only_what_misses_no_more_is_compared() -> None:
    assert cheapest(OTHERS, 0.01) == 0.4 and cheapest(OTHERS, 0.009) == 0.6
    assert cheapest(OTHERS, 0.0001) == 1.0  # no way does: all epochs
    assert default_ratio((0.3, 0.012), OTHERS) == pytest.approx(0.75)
    assert default_ratio((0.3, 0.0), OTHERS) == pytest.approx(0.3)


def test_frontiers_are_compared_at_each_regret() -> None:
    assert frontier_ratio(OTHERS, OTHERS) == pytest.approx(1.0)
    assert frontier_ratio([(epochs / 2, missed) for epochs, missed in OTHERS], OTHERS) < 0.6
    ours = [(0.1, REGRETS[-1])]  # cheaper at the largest regret alone, all epochs at the others
    expected = [1 / cheapest(OTHERS, regret) for regret in REGRETS[:-1]] + [0.1 / 0.4]
    assert frontier_ratio(ours, OTHERS) == pytest.approx(geometric_mean(expected))


def test_regrets_reach_from_a_twentieth_of_a_point_to_two_points() -> None:
    assert (REGRETS[0], REGRETS[-1]) == pytest.approx((0.0005, 0.02))
    assert geometric_mean([4.0, 0.25]) == pytest.approx(1.0)
