"""Runs that have learned nothing for half of their plan: told by their curve alone, whatever the task.

How many good and low ones of the recorded runs it stops is counted by `benchmarks/no_progress.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import pstdev
from typing import Literal

_PLAN = 0.5  # share of the planned epochs
_FEWEST = 5  # values; the shortest recorded half has as many
_NOISE = 0.2  # of the chance level
_MOST_NOISE = 0.01  # as accuracy
_LEAST_GAIN = 0.001  # of the metric's first value
_LOSS_FALL = 0.02  # of the first epoch's mean training loss
_EARLY_LOSS_FALL = 0.1  # of that early in the first epoch
_SCATTER = 3  # standard deviations of a few batches' mean: a loss that falls by less may be chance


def no_progress(
    values: Sequence[float],
    losses: Mapping[float, tuple[float, float]],
    planned_epochs: float | None,
    *,
    name: str,
    mode: Literal["max", "min"],
    classes: int | None,
) -> str:
    """Why a run has learned nothing for half of its plan; empty if it has, or nobody can tell.

    Args:
        values: the metric after each epoch so far; NaN where there was none.
        losses: for each time in epochs the mean training loss so far, and lately.
        planned_epochs: the run's length; None or negative where it is not known, and nothing is told.
        name: of the metric.
        mode: whether large or small values are better.
        classes: of a classification whose accuracy the metric is, a fraction; None for other metrics.
    """
    known = [value for value in values if math.isfinite(value)]
    if not planned_epochs or planned_epochs < 0 or len(known) < _FEWEST:
        return ""
    if not _PLAN * planned_epochs <= len(values) < planned_epochs:
        return ""
    best = max(known) if mode == "max" else min(known)
    so_far = f"in {len(values)} of {planned_epochs:g} epochs"
    if classes is not None and best <= 1 / classes + min(_NOISE / classes, _MOST_NOISE):
        return (
            f"its accuracy is at chance level: {name} was {best:.1%} at best {so_far}, and guessing among "
            f"{classes} classes gives {1 / classes:.1%}"
        )
    if abs(best - known[0]) <= _LEAST_GAIN * abs(known[0]) and not _loss_has_fallen(losses):
        return (
            f"{name} has not improved {so_far} ({known[0]:.4g} at first, {best:.4g} at best), nor has the "
            "training loss"
        )
    return ""


def first_epoch(planned_epochs: float | None) -> int | None:
    """The epoch after which a run of that length may be stopped at the earliest; None for never."""
    if not planned_epochs or planned_epochs < 0:
        return None
    epoch = max(_FEWEST, math.ceil(_PLAN * planned_epochs))
    return epoch if epoch < planned_epochs else None


def _loss_has_fallen(losses: Mapping[float, tuple[float, float]]) -> bool:
    """Whether the training loss has fallen within the first epoch or after it; True where nobody knows."""
    ends = [losses[time] for time in sorted(losses) if time == int(time)]
    finite = [mean for mean, _ in ends if math.isfinite(mean)]
    if not finite or finite[0] != ends[0][0]:
        return True
    limits = [finite[0] - _LOSS_FALL * abs(finite[0])]
    early = losses[min(losses)][0]  # of as few batches as the last ones of each epoch, and as scattered
    late = [lately for _, lately in ends if math.isfinite(lately)]
    if math.isfinite(early):
        scatter = pstdev(late) if late else 0.0
        limits.append(early - max(_EARLY_LOSS_FALL * abs(early), _SCATTER * scatter))
    return min(finite) < max(limits)
