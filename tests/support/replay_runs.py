"""Made-up runs for replays, whose result is known by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightning_nndyn.evaluation.replay.sampled_sweeps import ReplayRun
from lightning_nndyn.predictor import LearningCurve


def run(
    place: int,
    curve: Sequence[float],
    *,
    dataset: str = "digits",
    rate: float = 0.1,
    epochs: float | None = None,
) -> ReplayRun:
    config = {
        "dataset": dataset, "learning_rate": rate, "momentum": 0, "dropout": 0, "batch_size": 1,
        "crop_padding": 0, "flip": False, "network_options": {},
    }  # fmt: skip
    best = max(curve)
    return ReplayRun(
        place, list(curve), epochs or len(curve), best, best >= 0.5, epochs is None, config, [],
        LearningCurve({}, list(curve)),
    )  # fmt: skip


SLOW, FAST, BAD, LATE = (
    run(place, curve)
    for place, curve in enumerate(
        ([0.1, 0.3, 0.6, 0.7], [0.5, 0.6, 0.6, 0.6], [0.1, 0.1, 0.1, 0.1], [0.2, 0.2, 0.2, 0.9])
    )
)


FOUR = [SLOW, FAST, BAD, LATE]


def random_runs(count: int, epochs: int = 8, seed: int = 0) -> list[ReplayRun]:
    """Curves that rise to their ends, each at its own speed."""
    random = np.random.default_rng(seed)
    steps = np.arange(1, epochs + 1)
    return [
        run(
            place,
            (end * (1 - np.exp(-steps / speed)) + 0.02 * random.random(epochs)).round(9).tolist(),
            rate=float(end),
        )
        for place, (end, speed) in enumerate(
            zip(random.random(count), random.uniform(1, 5, count), strict=True)
        )
    ]
