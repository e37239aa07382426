"""How many epochs our ways spend beside the others', at the same regret."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

Point = tuple[float, float]
"""Epochs, as a share of all, and regret, a fraction: means over sweeps."""

REGRETS = tuple(float(regret) for regret in np.geomspace(0.0005, 0.02, 9))
"""At which frontiers are compared: 0.05 to 2 points of accuracy."""


def cheapest(points: Collection[Point], regret: float) -> float:
    """The fewest epochs that miss no more than this; all epochs where no way does."""
    return min((epochs for epochs, missed in points if missed <= regret), default=1.0)


def default_ratio(ours: Point, others: Collection[Point]) -> float:
    """Epochs of our default over those of the best of the others' defaults that misses no more."""
    epochs, regret = ours
    return epochs / cheapest(others, regret)


def frontier_ratio(ours: Collection[Point], others: Collection[Point]) -> float:
    """Epochs of our cheapest setting over those of the others', geometric mean over `REGRETS`."""
    ratios = [cheapest(ours, regret) / cheapest(others, regret) for regret in REGRETS]
    return geometric_mean(ratios)


def geometric_mean(ratios: Collection[float]) -> float:
    """Of positive numbers."""
    return float(np.exp(np.mean(np.log([*ratios]))))
