"""What a run has logged: training losses, validation accuracies. The other half of what a predictor reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor.features import Array

_LARGEST = 5.0  # of a loss, in units of guessing's; a run about to diverge has any number
_SMALLEST = 5e-3  # of an accuracy above guessing's, before its logarithm is taken


@dataclass(frozen=True)
class Curve:
    """What a run has logged so far.

    Attributes:
        losses: for each time in epochs the mean training loss (cross-entropy, nats) over the batches of its
            epoch so far, and over the last sixteenth of an epoch.
        accuracies: validation accuracy after each epoch, fractions.
        classes: how many classes there are, which tells what guessing gives.

    Raises:
        PredictorError: there are less than two classes.
    """

    losses: Mapping[float, tuple[float, float]] = field(default_factory=dict)
    accuracies: Sequence[float] = ()
    classes: int = 2

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise PredictorError(f"classes={self.classes}: accuracies mean something with 2 classes or more")

    def known(self, times: Sequence[float]) -> bool:
        """Whether it reaches that far: losses at all of `times`, an accuracy for each ended epoch."""
        ended = self.accuracies[: int(times[-1])]
        return (
            len(ended) == int(times[-1])
            and all(math.isfinite(accuracy) for accuracy in ended)
            and all(math.isfinite(loss) for time in times for loss in self.losses.get(time, (math.nan,)))
        )


def curve_row(curve: Curve, times: Sequence[float]) -> Array:
    """Losses and accuracies in units of what guessing gives, so that they compare between data sets.

    Args:
        curve: known at `times`.
        times: when it is read, ascending; the last one or two count.

    Returns:
        Shape [6] inside the first epoch, [10] afterwards.
    """
    guess = math.log(curve.classes)
    read = [curve.losses[time] for time in times[-2:]]
    losses = [min(loss / guess, _LARGEST) for pair in (read[0], read[-1]) for loss in pair]
    row = [*losses, losses[3] - losses[1], losses[3] - losses[2]]
    gains = _above_guessing(curve, times[-1])
    if gains:
        row += [gains[-1], gains[-1] - gains[max(0, len(gains) - 2)], gains[-1] - gains[0], max(gains)]
    return np.array(row)


def line_row(curve: Curve, times: Sequence[float]) -> Array:
    """The few numbers that rank runs on any data set, on scales where a straight line may do.

    Inside the first epoch there is no accuracy yet, and losses alone rank runs too badly to be mixed in.

    Returns:
        Shape [0] inside the first epoch, [4] afterwards.
    """
    gains = _above_guessing(curve, times[-1])
    if not gains:
        return np.empty(0)
    last, best = (math.log(max(gain, 0.0) + _SMALLEST) for gain in (gains[-1], max(gains)))
    lately = curve.losses[times[-1]][1] / math.log(curve.classes)
    lately = math.log(min(max(lately, 1e-4), _LARGEST))
    return np.array([last, best, lately, gains[-1] - gains[max(0, len(gains) - 2)]])


def line_width(times: Sequence[float]) -> int:
    """How many numbers `line_row` gives."""
    return 0 if times[-1] < 1 else 4


def _above_guessing(curve: Curve, time: float) -> list[float]:
    guess = 1 / curve.classes
    return [(accuracy - guess) / (1 - guess) for accuracy in curve.accuracies[: int(time)]]
