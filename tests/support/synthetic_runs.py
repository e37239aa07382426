"""Made-up histories with the shape of real ones, for what has to do with numbers, files and times only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from lightning_nndyn.predictor import Predictor
from lightning_nndyn.signature import STATISTICS, Snapshot

paper = partial(Predictor, classifier="svm", regressor="svr")
"""Reads the statistics alone, which is all that made-up snapshots have."""

TIMES = (0.25, 0.5, 1.0, 2.0, 3.0)
START = np.array([6.0, 6.8, 3.1, 3.3, 9.3, 0.06, 0.06, 0.025, 2.4, 5.9])


def snapshot(epoch: float, statistics: Sequence[float], nodes: int = 100) -> Snapshot:
    return Snapshot(epoch, tuple(map(float, statistics)), 1.0, 1e-7, 10, nodes, 10 * nodes)


def diverged(epoch: float) -> Snapshot:
    return snapshot(epoch, [float("nan")] * len(STATISTICS))


def history(
    rng: np.random.Generator, speed: float, times: Sequence[float] = TIMES, dies: float = float("inf")
) -> list[Snapshot]:
    """Statistics that move away from their start at `speed`, and are NaN from the epoch `dies` on."""
    start = START * (1 + 0.01 * rng.normal(size=10))
    direction = np.abs(rng.normal(1, 0.2, size=10))
    run = [snapshot(0.0, start)]
    for time in times:
        moved = start * (1 + speed * time * direction * np.exp(0.3 * rng.normal(size=10)))
        run.append(diverged(time) if time >= dies else snapshot(time, moved))
    return run


def corpus(
    runs: int, seed: int = 0, noise: float = 1.0, times: Sequence[float] = TIMES
) -> tuple[list[list[Snapshot]], list[float]]:
    """Runs whose accuracy rises with the logarithm of their speed, blurred by `noise`; about half are low."""
    rng = np.random.default_rng(seed)
    speeds = rng.uniform(-5, -1, size=runs)
    accuracies = 1 / (1 + np.exp(-2 * (speeds + 3 + noise * rng.normal(size=runs))))
    return [history(rng, 10.0**speed, times) for speed in speeds], accuracies.tolist()
