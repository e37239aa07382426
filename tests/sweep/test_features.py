"""Hyperparameters and ranks as features."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from lightning_nndyn.sweep import Reading, SweepRun
from lightning_nndyn.sweep.features import ParameterEncoder, RankTransform, RunFeatures


def test_normal_scores_are_the_quantiles_of_ranks() -> None:
    scores = RankTransform(np.array([3.0, 1.0, 2.0, 10.0]))
    np.testing.assert_allclose(scores(np.array([1.0, 2, 3, 10])), norm.ppf([0.125, 0.375, 0.625, 0.875]))
    np.testing.assert_allclose(scores(np.array([-9.0, 99.0])), norm.ppf([0.125, 0.875]))
    np.testing.assert_allclose(scores.inverse(scores(np.array([1.5, 7.0]))), [1.5, 7.0])
    tied = RankTransform(np.array([1.0, 1.0, 5.0, 5.0]))
    np.testing.assert_allclose(tied(np.array([1.0, 5.0])), norm.ppf([0.25, 0.75]))


def test_parameters_may_be_conditional_categorical_and_logarithmic() -> None:
    known = [
        {"lr": 10.0**-exponent, "depth": exponent, "kind": kind, "on": exponent > 1, **extra}
        for exponent, (kind, extra) in enumerate(
            [("sgd", {"momentum": 0.9}), ("adam", {}), (None, {}), ("sgd", {})]
        )
    ]
    rows = ParameterEncoder(known)
    found = rows(known)
    assert np.isfinite(found).all() and len(np.unique(found, axis=0)) == 4
    steps = np.diff(found, axis=0)
    even = np.isclose(steps, steps[0]).all(axis=0) & (steps[0] != 0)
    assert even.sum() == 2  # the logarithm of lr, and depth
    unknown = rows([{"lr": 1e9, "kind": "never seen", "other": 1}, {}])
    assert unknown.shape == (2, found.shape[1]) and np.abs(unknown).max() <= 3


def test_a_choice_of_numbers_and_texts_may_show_its_first_text_late() -> None:
    rows = ParameterEncoder([{"width": 16}, {"width": 32}, {"width": 16}])
    assert np.isfinite(rows([{"width": "auto"}, {"width": True}, {"width": 32}])).all()


def test_a_number_that_is_missing_is_as_far_away_as_another_choice() -> None:
    kinds = [{"kind": "sgd"}, {"kind": "adam"}]
    one, other = ParameterEncoder(kinds)(kinds)
    numbers = [{"lr": 0.1}, {"lr": 0.1}, {}]
    there, _, missing = ParameterEncoder(numbers)(numbers)
    assert np.linalg.norm(one - other) == np.linalg.norm(there - missing) == pytest.approx(2)


def test_weights_are_compared_in_units_of_their_own_and_the_first_component_spreads_most() -> None:
    table = np.random.default_rng(0).normal(size=(12, 6)) * [1, 1, 1, 1, 1, 1e-3]
    table[:, 0] = table[:, 1] + 0.1 * table[:, 2]  # correlated
    runs = [SweepRun(readings=[Reading(1.0, tuple(row), (row[0],))]) for row in table]
    scaled = [SweepRun(readings=[Reading(1.0, tuple(1000 * row), (row[0],))]) for row in table]
    _, weights, curve, _ = RunFeatures(runs, 1.0)(runs)
    other = RunFeatures(scaled, 1.0)(scaled)[1]
    np.testing.assert_allclose(np.abs(other), np.abs(weights), atol=1e-4)  # a component has no sign
    spread = np.sqrt((weights**2).mean(axis=0))
    assert weights.shape == (12, 4) and spread[0] == pytest.approx(1) and (np.diff(spread) < 0).all()
    assert list(np.argsort(curve[:, 0])) == list(np.argsort(table[:, 0]))
