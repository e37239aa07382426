"""The area of applicability: runs unlike those of the fit are far away."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from synthetic_runs import grown, runs

from lightning_nndyn.predictor import Predictor
from lightning_nndyn.predictor.applicability import ApplicabilityArea, fit_applicability


@cache
def fitted() -> Predictor:
    histories, accuracies, curves = runs()
    return Predictor(low_threshold=0.5).fit(histories, accuracies, curves=curves, corpus="made up")


def test_runs_unlike_those_of_the_fit_are_far() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 6))
    near = fit_applicability(x, np.array([0.5, 0.5, 0, 0, 0, 0]), np.arange(100) % 5)
    new = rng.normal(size=(400, 6))
    p_values = np.array([near.p_value(near.distance(row)) for row in new])
    assert abs((p_values < 0.1).mean() - 0.1) < 0.06  # a new one is as far as those that were held out
    assert near.p_value(near.distance(np.full(6, 9.0))) < 0.02
    blind = np.array([0.0, 0.0, 9, 9, 9, 9])  # far off only in what tells nothing
    assert near.p_value(near.distance(blind)) > 0.3
    assert ApplicabilityArea.from_arrays(near.to_arrays()).distance(blind) == near.distance(blind)


def test_a_run_as_far_as_one_that_was_held_out_counts_with_it() -> None:
    place, points = np.zeros(1), np.zeros((9, 1), dtype=np.float32)
    area = ApplicabilityArea(np.zeros(1, int), place, place + 1, points, np.array([1.0, 2.0, 4.0]))
    found = [area.distance(np.array([value])) for value in (2.0, 4.0, 4.1)]
    assert found[:2] == [1.0, 2.0]
    assert [area.p_value(one) for one in found] == [3 / 4, 2 / 4, 1 / 4]


def test_held_out_groups_are_far() -> None:
    """Where whole groups were held out, the usual distance is that between groups."""
    rng = np.random.default_rng(0)
    group = np.arange(100) % 5
    x = rng.normal(size=(100, 3)) + 10 * rng.normal(size=(5, 3))[group]
    weights = np.ones(3)
    apart, mixed = (fit_applicability(x, weights, folds) for folds in (group, np.arange(100) // 20))
    assert np.median(apart.held_out) > 3 * np.median(mixed.held_out)


@pytest.mark.slow
def test_runs_whose_weights_move_otherwise_are_out_of_domain() -> None:
    histories, _, _ = runs(seed=2)
    known = [fitted().predict(history[:3]) for history in histories]
    assert np.mean([verdict.in_domain for verdict in known]) > 0.85
    odd = [grown(one, 50.0) for one in histories[0]]
    verdict = fitted().predict(odd[:3])
    assert not verdict.in_domain and "unlike those of all runs that are known" in verdict.note
    assert (verdict.p_domain or 1) < 0.05 < 1 < (verdict.distance or 0)
