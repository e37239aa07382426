"""What is known of one run of a sweep: its hyperparameters, what was read of it, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lightning_nndyn.predictor import Curve
from lightning_nndyn.predictor.features import Array
from lightning_nndyn.signature.relative import graph_movement, movement_names, signed
from lightning_nndyn.signature.snapshot import Snapshot

_DIGITS = 5  # significant ones of what goes into a sweep's storage
_SINCE_START = [i for i, name in enumerate(movement_names()) if name.endswith(":start")]


@dataclass(frozen=True)
class Reading:
    """What was read of a run at one time.

    Attributes:
        time: in epochs, or in whatever unit the sweep reports; above 0.
        weights: numbers of the weights' movement, as many in all runs of a sweep; empty if not read.
        curve: numbers of losses and metric so far, as many in all runs at the same time; empty if not read.
        known: what a predictor that was fitted elsewhere says of the run's end; None if nothing.
    """

    time: float
    weights: Sequence[float] = ()
    curve: Sequence[float] = ()
    known: float | None = None

    @classmethod
    def of(
        cls, history: Sequence[Snapshot], curve: Curve | None = None, known: float | None = None
    ) -> Reading:
        """What the snapshots so far, and the curve if there is one, come down to.

        Args:
            history: a run's snapshots, two or more, the first at epoch 0.
            curve: losses at the last snapshot's time, accuracies up to it; gaps are left out.
            known: see `Reading`.
        """
        time = history[-1].epoch
        finite = history[-1].finite
        weights = movement_since_start(history[0], history[-1]) if finite else np.empty(0)
        return cls(time, _rounded(weights), _rounded(curve_numbers(curve, time)), known)

    def plain(self) -> dict[str, Any]:
        """As JSON-able values."""
        found = {"time": self.time, "weights": list(self.weights), "curve": list(self.curve)}
        return found if self.known is None else {**found, "known": self.known}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> Reading:
        """The inverse of `plain`."""
        return cls(content["time"], tuple(content["weights"]), tuple(content["curve"]), content.get("known"))


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        params: its hyperparameters: numbers, texts, truth values or None.
        readings: what was read of it, by rising time.
        value: the metric's final value; None while the run goes on, and where it was stopped.
        stopped: whether it was stopped for its prediction: how it would have ended is not known.
        weight: how many runs it stands for: more than itself if it was condemned and let finish on purpose,
            as all the others that were condemned do not show how they would have ended.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    readings: Sequence[Reading] = ()
    value: float | None = None
    stopped: bool = False
    weight: float = 1.0

    @property
    def finished(self) -> bool:
        """Whether its end is known."""
        return self.value is not None and math.isfinite(self.value) and not self.stopped

    def at(self, time: float) -> Reading | None:
        """What was read at a time."""
        return next((reading for reading in self.readings if reading.time == time), None)


def movement_since_start(first: Snapshot, now: Snapshot) -> Array:
    """How far a network has moved since it was made: what of `graph_movement` needs no third snapshot.

    Raises:
        PredictorError: a snapshot is not finite, or has no numbers per layer.
    """
    return graph_movement([first, now], [first.distances, now.distances])[_SINCE_START]


def curve_numbers(curve: Curve | None, time: float) -> Array:
    """Losses so far and lately; after whole epochs also the metric's last, best, and latest change.

    Returns:
        Shape [0] without a curve, else [2] inside the first epoch and [5] afterwards, less what is not known.
    """
    if curve is None:
        return np.empty(0)
    losses = [float(signed(np.array(loss))) for loss in curve.losses.get(time, ())]
    values = list(curve.accuracies[: int(time)])
    if values:
        losses += [values[-1], max(values), values[-1] - values[max(0, len(values) - 2)]]
    return np.array(losses) if all(map(math.isfinite, losses)) else np.empty(0)


def _rounded(values: Array) -> tuple[float, ...]:
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)
