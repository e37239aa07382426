"""Which final accuracies are low: the rule that is fixed beforehand (the paper's Table 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.signature.snapshot import Array, Mask


@dataclass(frozen=True)
class LowAccuracyRule:
    """A run is low if its final accuracy is below a threshold, or below a share of the best one.

    Shares are measured from guessing: of the runs on ten classes whose best reaches 0.9, those with less than
    0.5 are low by ``share=0.5``.

    Attributes:
        threshold: an accuracy, a fraction.
        share: instead of it, a share of the best accuracy of the same network on the same data.

    Raises:
        PredictorError: not exactly one of the two is given, or it is not within (0, 1).
    """

    threshold: float | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        given = {"low_threshold": self.threshold, "low_share": self.share}
        known = {name: value for name, value in given.items() if value is not None}
        if len(known) != 1:
            raise PredictorError(
                "pass low_threshold, an accuracy, or low_share, a share of the best one: one of them"
            )
        for name, value in known.items():
            if not 0 < value < 1:
                raise PredictorError(f"{name}={value} is not a fraction in (0, 1), such as 0.4")

    def low(self, accuracies: Array, relative: Array) -> Mask:
        """Which runs are low, shape [n].

        Args:
            accuracies: final accuracies, fractions, shape [n].
            relative: the same as shares of the best, see `relative_accuracies`; shape [n].
        """
        return (
            accuracies < self.threshold if self.threshold is not None else relative < float(self.share or 0)
        )

    def lowest_good_accuracy(self, best: float, guess: float) -> float:
        """The accuracy at and above which a run is good.

        Args:
            best: accuracy of the best run that this one is compared with.
            guess: accuracy of guessing, one over the number of classes.
        """
        if self.threshold is not None:
            return self.threshold
        return guess + float(self.share or 0) * max(0.0, best - guess)

    def __str__(self) -> str:
        """In words, after "low is "."""
        if self.share is not None:
            return f"below {self.share:.0%} of the best"
        return f"below {self.threshold:.0%}"


def relative_accuracies(accuracies: Array, populations: NDArray[Any], guesses: Array) -> Array:
    """Accuracies as shares of what can be reached: 0 for guessing, 1 for the best run of the same population.

    Args:
        accuracies: fractions, shape [n].
        populations: of one network on one data set each, shape [n].
        guesses: accuracies of guessing, shape [n].

    Returns:
        Shape [n], each within 0..1.
    """
    relative = np.empty(len(accuracies))
    for population in np.unique(populations):
        members = populations == population
        span = np.maximum(accuracies[members].max() - guesses[members], 1e-9)
        relative[members] = (accuracies[members] - guesses[members]) / span
    return np.clip(relative, 0, 1)
