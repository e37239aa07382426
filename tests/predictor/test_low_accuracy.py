"""The rule for low accuracy, which fits, audits and reports share."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor.low_accuracy import LowAccuracyRule, relative_accuracies


def test_a_threshold_is_an_accuracy() -> None:
    rule = LowAccuracyRule(threshold=0.4)
    accuracies = np.array([0.39, 0.4, 0.9])
    assert rule.low(accuracies, np.ones(3)).tolist() == [True, False, False]
    assert rule.lowest_good_accuracy(best=0.9, guess=0.1) == 0.4
    assert str(rule) == "below 40%"


def test_a_share_is_measured_from_guessing_to_the_best_run() -> None:
    rule = LowAccuracyRule(share=0.5)
    assert rule.low(np.ones(3), np.array([0.49, 0.5, 1])).tolist() == [True, False, False]
    assert rule.lowest_good_accuracy(best=0.9, guess=0.1) == pytest.approx(0.5)
    assert rule.lowest_good_accuracy(best=0.05, guess=0.1) == 0.1  # no run is better than guessing
    assert str(rule) == "below 50% of the best"


@pytest.mark.parametrize("rule", [LowAccuracyRule(threshold=0.37), LowAccuracyRule(share=0.37)], ids=str)
def test_both_forms_of_the_rule_agree(rule: LowAccuracyRule) -> None:
    """Fits compare relative accuracies, audits and reports one accuracy: the same runs are low."""
    accuracies = np.random.default_rng(0).random(500)
    relative = relative_accuracies(accuracies, np.zeros(500), np.full(500, 0.1))
    lowest = rule.lowest_good_accuracy(accuracies.max(), 0.1)
    np.testing.assert_array_equal(rule.low(accuracies, relative), accuracies < lowest)


@pytest.mark.parametrize("wrong", [{}, {"threshold": 0.5, "share": 0.5}])
def test_exactly_one_is_given(wrong: dict[str, float]) -> None:
    with pytest.raises(PredictorError, match="low_threshold, an accuracy, or low_share"):
        LowAccuracyRule(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"threshold": 40}, {"threshold": 0}, {"share": 50}, {"share": 1}, {"threshold": 1.5}]
)
def test_fractions_only(wrong: dict[str, float]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(PredictorError, match=f"low_{name}={value}"):
        LowAccuracyRule(**wrong)


def test_relative_accuracy_is_a_share_of_what_can_be_reached() -> None:
    names = np.array(["a", "a", "a", "b", "b"])
    accuracies = np.array([0.1, 0.5, 0.9, 0.01, 0.05])
    guesses = np.array([0.1, 0.1, 0.1, 0.01, 0.01])
    np.testing.assert_allclose(relative_accuracies(accuracies, names, guesses), [0, 0.5, 1, 0, 1])
