"""The learning curve of a run: training losses and validation accuracies so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.signature.snapshot import Array

_LARGEST_LOSS = 5.0  # in units of guessing's; the loss of a run about to diverge has no bound
SMALLEST_LOSS = 1e-4  # in the same units, before its logarithm is taken
SMALLEST_GAIN = 5e-3  # of an accuracy above guessing's, before its logarithm is taken


@dataclass(frozen=True)
class LearningCurve:
    """What a run has logged so far.

    Attributes:
        losses: for each time in epochs the mean training loss (cross-entropy, nats) over the batches of its
            epoch so far, and over the last sixteenth of an epoch.
        accuracies: validation accuracy after each epoch, fractions.
        classes: how many classes there are; it determines the loss and the accuracy of guessing.

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
        """Whether there are losses at all of `times`, and an accuracy for each epoch that ended by then."""
        ended = self.accuracies[: int(times[-1])]
        return (
            len(ended) == int(times[-1])
            and all(math.isfinite(accuracy) for accuracy in ended)
            and all(math.isfinite(loss) for time in times for loss in self.losses.get(time, (math.nan,)))
        )


Curve = LearningCurve
"""The public name."""


def curve_row(curve: LearningCurve, times: Sequence[float]) -> Array:
    """Losses and accuracies in units of what guessing gives, so that they compare between data sets.

    Args:
        curve: known at `times`.
        times: when it is read, ascending; the last one or two count.

    Returns:
        Shape [6] inside the first epoch, [10] afterwards.
    """
    guess = math.log(curve.classes)
    read = [curve.losses[time] for time in times[-2:]]
    losses = [min(loss / guess, _LARGEST_LOSS) for pair in (read[0], read[-1]) for loss in pair]
    row = [*losses, losses[3] - losses[1], losses[3] - losses[2]]
    gains = above_guessing(curve, times[-1])
    if gains:
        row += [gains[-1], gains[-1] - gains[max(0, len(gains) - 2)], gains[-1] - gains[0], max(gains)]
    return np.array(row)


def linear_row(curve: LearningCurve, times: Sequence[float]) -> Array:
    """The few numbers that rank runs on any data set, on scales on which a linear model may do.

    Inside the first epoch there is no accuracy yet, and losses alone rank runs too badly.

    Returns:
        Shape [0] inside the first epoch, [4] afterwards.
    """
    gains = above_guessing(curve, times[-1])
    if not gains:
        return np.empty(0)
    last, best = (math.log(max(gain, 0.0) + SMALLEST_GAIN) for gain in (gains[-1], max(gains)))
    late_loss = curve.losses[times[-1]][1] / math.log(curve.classes)
    late_loss = math.log(min(max(late_loss, SMALLEST_LOSS), _LARGEST_LOSS))
    return np.array([last, best, late_loss, gains[-1] - gains[max(0, len(gains) - 2)]])


def curve_width(times: Sequence[float]) -> int:
    """How many numbers `curve_row` gives."""
    return 6 if times[-1] < 1 else 10


def linear_width(times: Sequence[float]) -> int:
    """How many numbers `linear_row` gives."""
    return 0 if times[-1] < 1 else 4


def losses_by_guessing(curve: LearningCurve, epochs: int) -> list[float]:
    """Mean training losses of the first epochs, in units of guessing's."""
    guess = math.log(curve.classes)
    return [min(curve.losses[float(epoch)][0] / guess, _LARGEST_LOSS) for epoch in range(1, epochs + 1)]


def above_guessing(curve: LearningCurve, time: float) -> list[float]:
    """Accuracies after each epoch that has ended by `time`: 0 is guessing, 1 is perfect."""
    guess = 1 / curve.classes
    return [(accuracy - guess) / (1 - guess) for accuracy in curve.accuracies[: int(time)]]
