"""The predictor from end to end: fitted, asked, and when it refuses."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import digits_runs
import numpy as np
import pytest
from synthetic_runs import corpus, history, paper

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import Predictor
from lightning_nndyn.predictor.policy import Policy
from lightning_nndyn.signature.snapshot import Snapshot


def run(speed: float = 1e-3, seed: int = 1, **changes: Any) -> list[Snapshot]:
    return history(np.random.default_rng(seed), speed, **changes)


def epochs(history: list[Snapshot], *times: float) -> list[Snapshot]:
    return [snapshot for snapshot in history if snapshot.epoch in times]


@cache
def fitted() -> Predictor:
    return paper(low_threshold=0.5).fit(*corpus(80), corpus="made up")


@pytest.mark.parametrize("times", [(0,), (0, 0.5), (0, 2, 3)])
def test_history_without_a_known_beginning_is_refused(times: tuple[float, ...]) -> None:
    with pytest.raises(
        PredictorError, match=r"needs epoch 0 and epoch 0.25 or 1 .*snapshots=\(0.25, 0.5, 1, 2, 3\)"
    ):
        fitted().predict(epochs(run(), *times))


@pytest.mark.parametrize("history", [[], run()[1:]])
def test_history_that_does_not_begin_at_zero_is_refused(history: list[Snapshot]) -> None:
    with pytest.raises(PredictorError, match="must begin with the snapshot at epoch 0"):
        fitted().predict(history)


def test_history_out_of_order_is_refused() -> None:
    whole = run()
    with pytest.raises(PredictorError, match="must ascend"):
        fitted().predict([whole[0], whole[2], whole[1]])


@pytest.mark.slow
def test_calibrated_policy_stops_few_good_runs_and_most_doomed_ones() -> None:
    """From histories to decisions: the promise holds for new runs, within what few corpora can show."""
    rate, stopped, caught = 0.1, [], []
    for seed in range(4):
        predictor = paper(low_threshold=0.5).fit(*corpus(160, seed=seed, noise=0.3))
        policy = Policy.from_predictor(predictor, max_false_stop_rate=rate)
        histories, accuracies = corpus(120, seed=100 + seed, noise=0.3)
        for whole, accuracy in zip(histories, accuracies, strict=True):
            verdicts = [predictor.predict(whole[:n]) for n in range(2, len(whole) + 1)]
            (stopped if accuracy >= 0.5 else caught).append(policy.decide(verdicts).stop)
    assert np.mean(stopped) < rate + 0.05
    assert np.mean(caught) > 0.6


def test_threshold_in_percent_is_refused() -> None:
    with pytest.raises(PredictorError, match="low_threshold=40"):
        paper(low_threshold=40)


def test_predictor_that_is_not_fitted_says_so() -> None:
    with pytest.raises(PredictorError, match="not fitted"):
        paper(low_threshold=0.5).predict(run())


@pytest.mark.slow
def test_scikit_learn_is_not_imported_with_the_package() -> None:
    code = (
        "import sys, lightning_nndyn.predictor.policy, lightning_nndyn.predictor;"
        "print([name for name in ('sklearn', 'skops', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_real_runs_it_has_not_seen() -> None:
    """LeNet on digits: new seeds and learning rates, decided within the first epochs."""
    predictor = digits_runs.predictor()
    for seed, rate in enumerate((0.06, 0.025)):
        history, accuracy = digits_runs.history_of(rate, seed=500 + seed)
        verdict = predictor.predict(history)
        assert accuracy > 0.5
        assert verdict.in_domain
        assert verdict.p_low < 0.5
        assert abs(verdict.predicted_accuracy - accuracy) < 0.35
    history, accuracy = digits_runs.history_of(3e-6, seed=510)
    verdict = predictor.predict(history[:2])
    assert accuracy < 0.5
    assert verdict.epoch == 0.0625
    assert verdict.p_low > 0.5
    assert abs(verdict.predicted_accuracy - accuracy) < 0.25
