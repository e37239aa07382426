"""Ranks on the scale of a normal distribution: what any metric and any feature are compared by."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from lightning_nndyn.predictor.features import Array


class NormalScores:
    """Maps values to the quantiles of a normal distribution that their ranks among known ones have.

    Bounded and free of units: a run that explodes is no farther out than the last of the known ones.

    Args:
        known: values, shape [n].
    """

    def __init__(self, known: Array) -> None:
        self.values, counts = np.unique(known, return_counts=True)
        middle = np.cumsum(counts) - counts / 2  # ties share the middle of their ranks
        self.scores = ndtri(middle / len(known))

    def __call__(self, values: Array) -> Array:
        """Scores; between known values on the line between theirs, beyond them as the last."""
        return np.interp(values, self.values, self.scores)

    def inverse(self, scores: Array) -> Array:
        """Values that have such scores."""
        return np.interp(scores, self.scores, self.values)
