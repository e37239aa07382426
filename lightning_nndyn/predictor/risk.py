"""A common scale for what models of different times say, and how far good runs go on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.predictor.features import Array, Mask

_LARGEST = 1e6  # stands for a run whose weights are not finite
_TINY = 1e-6  # of a standard deviation: good runs that all have the same value


class Risk(NamedTuple):
    """How a value compares with those of good runs at the same time, in their standard deviations.

    A single threshold on it is as strict at every time: values themselves spread more at some.
    """

    mean: float
    std: float

    @classmethod
    def of(cls, good: Array) -> Risk:
        """The scale of held-out values of good runs, shape [n]."""
        return cls(float(good.mean()), max(float(good.std()), _TINY))

    def __call__(self, value: float) -> float:
        """The risk of a run with this value."""
        return float(np.clip((value - self.mean) / self.std, -_LARGEST, _LARGEST))


class Held(NamedTuple):
    """What held-out models of one time and kind said.

    Attributes:
        kind: of the models.
        runs: their indices, shape [n].
        values: larger for low runs, shape [n].
        p_low: probabilities of being low, shape [n].
    """

    kind: str
    runs: NDArray[np.int64]
    values: Array
    p_low: Array


def largest_risks(held: Sequence[Held], low: Mask, diverged: Mask) -> Array:
    """Each run's largest risk over all its decisions.

    A good run's risks are on the scale of the *other* good runs, as those of a new run are: nobody sets his
    own standard.

    Args:
        held: of one kind of models.
        low: which runs are low, shape [runs].
        diverged: which runs ended with weights that are not finite, shape [runs].

    Returns:
        Shape [runs]; -inf for a run that was never judged.
    """
    largest = np.where(diverged, _LARGEST, -np.inf)
    for said in held:
        good = ~low[said.runs]
        scale = Risk.of(said.values[good])
        risks = np.array([scale(value) for value in said.values])
        risks[good] = _by_the_others(said.values[good])
        largest[said.runs] = np.maximum(largest[said.runs], risks)
    return largest


def _by_the_others(values: Array) -> Array:
    """For each value, its place on the scale of all but itself."""
    n = len(values)
    if n < 2:
        return np.zeros(n)
    means = (values.sum() - values) / (n - 1)
    squares = ((values**2).sum() - values**2) / (n - 1) - means**2
    risks = (values - means) / np.maximum(np.sqrt(np.maximum(squares, 0)), _TINY)
    return np.asarray(np.clip(risks, -_LARGEST, _LARGEST))
