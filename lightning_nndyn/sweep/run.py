"""A run of a sweep: its hyperparameters, what was read of it at each time, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np

from lightning_nndyn._files import Finite, decode
from lightning_nndyn.errors import renamed_arguments
from lightning_nndyn.predictor import LearningCurve
from lightning_nndyn.signature.relative import graph_movement, movement_names, signed
from lightning_nndyn.signature.snapshot import Array, Snapshot

Weight = Annotated[float, msgspec.Meta(ge=1, le=1e300)]
"""How many runs a run stands for."""

_DIGITS = 5  # significant ones of the numbers in a sweep's storage
_SINCE_START = [i for i, name in enumerate(movement_names()) if name.endswith(":start")]


@renamed_arguments(known="prior_prediction")
@dataclass(frozen=True)
class SweepReading:
    """What was read of a run at one time.

    Attributes:
        time: in epochs, or in whatever unit the sweep reports; above 0.
        weights: numbers of the weights' movement, as many in all runs of a sweep; empty if not read.
        curve: numbers of losses and metric so far, as many in all runs at the same time; empty if not read.
        prior_prediction: final value predicted by a predictor that was fitted outside of the sweep; None
            without one.
    """

    time: float
    weights: Sequence[float] = ()
    curve: Sequence[float] = ()
    prior_prediction: float | None = None

    @classmethod
    @renamed_arguments(known="prior_prediction")
    def of(
        cls,
        history: Sequence[Snapshot],
        curve: LearningCurve | None = None,
        prior_prediction: float | None = None,
    ) -> SweepReading:
        """The reading at the time of the latest snapshot.

        Args:
            history: a run's snapshots, two or more, the first at epoch 0.
            curve: losses at the last snapshot's time, accuracies up to it; missing ones are left out.
            prior_prediction: see `SweepReading`.
        """
        time = history[-1].epoch
        finite = history[-1].finite
        weights = movement_since_start(history[0], history[-1]) if finite else np.empty(0)
        return cls(time, _rounded(weights), _rounded(curve_numbers(curve, time)), prior_prediction)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        content = {"time": self.time, "weights": list(self.weights), "curve": list(self.curve)}
        return content if self.prior_prediction is None else {**content, "known": self.prior_prediction}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SweepReading:
        """The inverse of `to_dict`.

        Raises:
            ValueError: a value is missing or unfit.
        """
        found = decode(content, _Stored)
        return cls(found.time, found.weights, found.curve, found.known)


class _Stored(msgspec.Struct):
    """What `SweepReading.to_dict` gives."""

    time: Finite
    weights: tuple[Finite, ...]
    curve: tuple[Finite, ...]
    known: Finite | None = None


Reading = SweepReading


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        params: its hyperparameters: numbers, texts, truth values or None.
        readings: by rising time.
        value: the metric's final value; None while the run goes on, and if it was stopped.
        stopped: whether it was stopped for its prediction, so that its final value is unknown.
        weight: how many runs it stands for. More than 1 if it was flagged to stop and finished as an audit:
            it represents the flagged runs that were stopped, whose final values are unknown.
        planned_epochs: how long it is to be trained, in the unit of the readings' times; None if unknown.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    readings: Sequence[SweepReading] = ()
    value: float | None = None
    stopped: bool = False
    weight: float = 1.0
    planned_epochs: float | None = None

    @property
    def finished(self) -> bool:
        """Whether its final value is known."""
        return self.value is not None and math.isfinite(self.value) and not self.stopped

    def at(self, time: float) -> SweepReading | None:
        """The reading at a time."""
        return next((reading for reading in self.readings if reading.time == time), None)


def movement_since_start(first: Snapshot, now: Snapshot) -> Array:
    """How far a network has moved since its start: the numbers of `graph_movement` that need two snapshots.

    Raises:
        PredictorError: a snapshot is not finite, or has no numbers per layer.
    """
    return graph_movement([first, now], [first.distances, now.distances])[_SINCE_START]


def curve_numbers(curve: LearningCurve | None, time: float) -> Array:
    """Mean losses so far and lately; after whole epochs also the metric's last, best, and latest change.

    Returns:
        Shape [0] without a curve, else [2] inside the first epoch and [5] afterwards; fewer if some are
        missing.
    """
    if curve is None:
        return np.empty(0)
    numbers = [float(signed(np.array(loss))) for loss in curve.losses.get(time, ())]
    values = list(curve.accuracies[: int(time)])
    if len(values) < int(time):
        return np.empty(0)
    if values:
        numbers += [values[-1], max(values), values[-1] - values[max(0, len(values) - 2)]]
    return np.array(numbers) if all(map(math.isfinite, numbers)) else np.empty(0)


def _rounded(values: Array) -> tuple[float, ...]:
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)
