"""Hyperparameters and ranks as features."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from lightning_nndyn.sweep.features import ParameterEncoder, RankTransform


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
