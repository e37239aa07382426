"""What is learned in a sweep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from made_up_corpora import made_up
from replay_runs import run

from lightning_nndyn.evaluation.replay.learned_policies import Learned, parameters
from lightning_nndyn.evaluation.replay.sampled_sweeps import ReplayRun
from lightning_nndyn.predictor import LearningCurve


def told_by_its_movement(count: int) -> list[ReplayRun]:
    """Runs with snapshots that tell how they will end, and curves that say nothing before the fifth epoch."""
    collection = made_up("one", 0, count=count)
    return [
        replace(
            run(place, [0.1] * 4 + [float(accuracy)] * 4),
            history=collection.histories[place],
            learning_curve=LearningCurve({}, [], 10),
        )
        for place, accuracy in enumerate(collection.accuracies)
    ]


def test_what_is_learned_in_the_sweep_trains_the_first_ten_and_keeps_the_best() -> None:
    runs = told_by_its_movement(50)
    ends = Learned(0.05).epochs(runs)
    full = [end == one.epochs for end, one in zip(ends, runs, strict=True)]
    assert all(full[:10]) and not all(full)
    best = max(range(50), key=lambda place: runs[place].accuracy)
    assert full[best]
    stopped = [one.accuracy for one, whole in zip(runs, full, strict=True) if not whole]
    assert np.mean(stopped) < np.mean([one.accuracy for one in runs])


def test_a_list_among_the_hyperparameters_counts_by_its_length_and_sum() -> None:
    config = {"learning_rate": 0.1, "seed": 3, "network_options": {"widths": [8, 16], "kernel": 3}}
    assert parameters(config) == {"learning_rate": 0.1, "widths:length": 2, "widths:sum": 24.0, "kernel": 3}
