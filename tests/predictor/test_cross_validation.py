"""Scores are of runs that the models were not fitted to; probabilities are calibrated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from synthetic_runs import corpus, grown, history, paper, runs

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import Predictor


def test_scores_are_of_runs_not_seen() -> None:
    """On noise a fit to the very runs it is scored on looks good; held out, it cannot."""
    rng = np.random.default_rng(0)
    histories = [history(rng, 1e-3) for _ in range(200)]
    predictor = paper(low_threshold=0.5).fit(histories, rng.random(200))
    for score in predictor.card["scores"]:
        assert abs(score["accuracy"] - 0.5) < 0.12
        assert score["r2"] < 0.1


def test_groups_are_not_split() -> None:
    """Copies of a run give its accuracy away, unless they are held out together."""
    rng = np.random.default_rng(0)
    once = [history(rng, 1e-3) for _ in range(50)]
    accuracies = rng.random(50)
    copies, labels, groups = once * 4, np.tile(accuracies, 4), list(range(50)) * 4

    def score(groups: Any) -> float:
        fitted = paper(low_threshold=0.5, max_epoch=0.5).fit(copies, labels, groups=groups)
        return fitted.card["scores"][-1]["accuracy"]

    assert score(None) > 0.85
    assert score(groups) < 0.65


def test_probability_is_calibrated() -> None:
    """Of new runs that are given p_low about p, about a share p is low; a plain sigmoid is at 0.1."""
    gaps = []
    for seed in range(3):
        predictor = paper(low_threshold=0.5).fit(*corpus(400, seed=seed))
        histories, accuracies = corpus(1000, seed=50 + seed)
        p_low = np.array([predictor.predict(history).p_low for history in histories])
        low = np.array(accuracies) < 0.5
        bins = [np.floor(10 * p_low) == i for i in range(10)]
        gaps.append(sum(abs(p_low[b].sum() - low[b].sum()) for b in bins) / len(low))
    assert np.mean(gaps) < 0.075


def test_populations_are_held_out_whole() -> None:
    """Runs of a population are copies of each other: only what other populations teach is counted."""
    rng = np.random.default_rng(0)
    histories, accuracies, curves = runs(count=60)
    names = [f"network {i % 6}" for i in range(60)]
    marked = [[grown(one, 4.0 ** (i % 6)) for one in history] for i, history in enumerate(histories)]
    noise = rng.random(6)
    told = [float(noise[i % 6]) for i in range(60)]  # the population alone decides
    split, held = (
        Predictor(low_threshold=0.5, max_epoch=0.25).fit(marked, told, curves=curves, populations=given)
        for given in (None, names)
    )
    assert split.card["scores"][0]["mae"] < 0.7 * held.card["scores"][0]["mae"]
    assert held.card["populations"] == sorted(set(names))
    assert len(held.card["calibration"]["weights"]["good_maxima"]) == 6
    assert len(split.card["calibration"]["weights"]["good_maxima"]) == 1
    assert len(accuracies) == 60


def test_too_few_runs_at_a_late_time_is_refused_with_a_max_epoch_that_works() -> None:
    """Low runs tend to end early."""
    histories, accuracies = corpus(60)
    cut = [history[:5] if a < 0.5 else history for history, a in zip(histories, accuracies, strict=True)]
    with pytest.raises(
        PredictorError, match=r"0 low .* epochs 0.25, 0.5, 1, 2, 3 .*max_epoch=2 is the largest"
    ):
        paper(low_threshold=0.5).fit(cut, accuracies)
    assert paper(low_threshold=0.5, max_epoch=2).fit(cut, accuracies).times == (0.25, 0.5, 1, 2)


def test_no_snapshot_up_to_max_epoch_is_refused() -> None:
    with pytest.raises(PredictorError, match="raise max_epoch"):
        paper(low_threshold=0.5, max_epoch=0.1).fit(*corpus(20))
