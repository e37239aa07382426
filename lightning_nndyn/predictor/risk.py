"""Risk: a scale on which the predictions of all decision times compare, so that one threshold serves all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from lightning_nndyn._files import Finite
from lightning_nndyn.signature.snapshot import Array, Mask

_LARGEST = 1e6  # the risk of a run whose weights are not finite
_SMALLEST_STD = 1e-6  # good runs may all have the same value


class RiskScale(NamedTuple):
    """How a value compares with those of good runs at the same time, in their standard deviations.

    The spread of the values differs between times. On this scale a threshold is as strict at every time.
    """

    mean: Finite
    std: Annotated[float, Meta(ge=1e-12, le=1e300)]

    @classmethod
    def from_good_runs(cls, values: Array) -> RiskScale:
        """The scale of held-out values of good runs, shape [n]."""
        return cls(float(values.mean()), max(float(values.std()), _SMALLEST_STD))

    def __call__(self, value: float) -> float:
        """The risk of a run with this value."""
        return float(np.clip((value - self.mean) / self.std, -_LARGEST, _LARGEST))


class HeldOutScores(NamedTuple):
    """Predictions of one decision time for runs that the models were not fitted to.

    Attributes:
        kind: of the models.
        runs: indices of the runs, shape [n].
        values: larger for low runs, shape [n].
    """

    kind: str
    runs: NDArray[np.int64]
    values: Array


def max_risk_per_run(held_out: Sequence[HeldOutScores], low: Mask, diverged: Mask) -> Array:
    """Each run's largest risk over all decision times.

    A good run is scored against the other good runs (leave-one-out), as a new run would be.

    Args:
        held_out: of one kind of models.
        low: which runs are low, shape [runs].
        diverged: which runs ended with weights that are not finite, shape [runs].

    Returns:
        Shape [runs]; -inf for a run without any prediction.
    """
    largest = np.where(diverged, _LARGEST, -np.inf)
    for scores in held_out:
        good = ~low[scores.runs]
        scale = RiskScale.from_good_runs(scores.values[good])
        risks = np.array([scale(value) for value in scores.values])
        risks[good] = _leave_one_out(scores.values[good])
        largest[scores.runs] = np.maximum(largest[scores.runs], risks)
    return largest


def _leave_one_out(values: Array) -> Array:
    """The risk of each value on the scale of all the others; shape [n]."""
    n = len(values)
    if n < 2:
        return np.zeros(n)
    means = (values.sum() - values) / (n - 1)
    variances = ((values**2).sum() - values**2) / (n - 1) - means**2
    risks = (values - means) / np.maximum(np.sqrt(np.maximum(variances, 0)), _SMALLEST_STD)
    return np.asarray(np.clip(risks, -_LARGEST, _LARGEST))
