"""The card: calibration, accuracy of diverged runs, and the fingerprint of the runs."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from synthetic_runs import corpus, history, paper

from lightning_nndyn.predictor import Predictor
from lightning_nndyn.signature.snapshot import Snapshot


def run(speed: float = 1e-3, seed: int = 1, **changes: Any) -> list[Snapshot]:
    return history(np.random.default_rng(seed), speed, **changes)


@cache
def fitted() -> Predictor:
    return paper(low_threshold=0.5).fit(*corpus(80), corpus="made up")


def test_one_maximum_per_good_run() -> None:
    accuracies = np.array(corpus(80)[1])
    (maxima,) = fitted().card["calibration"]["weights"]["good_maxima"]
    assert len(maxima) == (accuracies >= 0.5).sum()
    assert maxima == sorted(maxima)
    assert maxima[0] < maxima[-1] < 1e6


def test_good_run_that_diverges_counts_as_stopped() -> None:
    histories, accuracies = corpus(60)
    predictor = paper(low_threshold=0.5).fit([*histories, run(dies=3.0)], [*accuracies, 0.9])
    assert predictor.card["calibration"]["weights"]["good_maxima"][0][-1] == 1e6


def test_without_diverged_runs_the_worst_accuracy_stands_for_them() -> None:
    assert fitted().predict(run(dies=0.25)).predicted_accuracy == min(corpus(80)[1])
