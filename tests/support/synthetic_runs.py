"""Made-up histories with the shape of real ones, for what has to do with numbers, files and times only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np

from lightning_nndyn.predictor import LearningCurve, PaperPredictor
from lightning_nndyn.signature.snapshot import LAYER_FIELDS, STATISTICS, Snapshot

paper = partial(PaperPredictor, regressor="svr", features="both", scale="relative")
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


RUNS = 90


@cache
def runs(seed: int = 0, count: int = RUNS) -> tuple[list[list[Snapshot]], list[float], list[LearningCurve]]:
    """Made-up runs with all that is read of one: the faster the weights move, the better it ends."""
    histories, accuracies = corpus(count, seed)
    rng = np.random.default_rng(seed)
    whole = [[with_layers(snapshot, rng) for snapshot in history] for history in histories]
    curves = [
        curve_of(history, accuracy, rng) for history, accuracy in zip(histories, accuracies, strict=True)
    ]
    return whole, accuracies, curves


def with_layers(snapshot: Snapshot, rng: np.random.Generator) -> Snapshot:
    """Three layers whose numbers follow the graph's median degree."""
    size = snapshot.statistics[0]
    layers = {
        name: tuple(size * (1 + 0.01 * rng.random(len(LAYER_FIELDS))) + place)
        for place, name in enumerate(("input", "first", "last"))
    }
    far = abs(size - 6) + 1e-3 * rng.random()
    return replace(snapshot, layers=layers, distances=(far, 2 * far))


def curve_of(history: list[Snapshot], accuracy: float, rng: np.random.Generator) -> LearningCurve:
    times = [snapshot.epoch for snapshot in history if snapshot.epoch > 0]
    loss = {time: (2.3 - accuracy * time / 4, 2.2 - accuracy * time / 4) for time in times}
    ends = [0.1 + (accuracy - 0.1) * (1 - 0.5**epoch) + 0.02 * rng.normal() for epoch in (1, 2, 3)]
    return LearningCurve(loss, [min(max(end, 0.0), 1.0) for end in ends], classes=10)


def grown(one: Snapshot, factor: float) -> Snapshot:
    """The same snapshot, of weights that have grown by a factor since the first."""
    if one.epoch == 0:
        return one
    return replace(
        one,
        statistics=tuple(factor * value for value in one.statistics),
        layers={name: tuple(factor * value for value in row) for name, row in one.layers.items()},
        distances=tuple(factor + far for far in one.distances),
    )
