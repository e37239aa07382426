"""A stopping rule that learns inside the sweep, from the sweep's own runs only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from lightning_nndyn.evaluation.replay.sampled_sweeps import ReplayRun
from lightning_nndyn.sweep import Reading, SweepPredictor, SweepRun

_NO_PARAMETERS = ("seed", "index", "network_options")


@dataclass(frozen=True)
class Learned:
    """`SweepPredictor`: the first ten runs are trained, and the others judged by what they taught.

    Attributes:
        rate: share of the sweep's best quarter that may be stopped.
        reads: features beside the hyperparameters.
    """

    rate: float
    reads: Literal["weights and curve", "weights"] = "weights and curve"
    ours: bool = True

    @property
    def family(self) -> str:
        """See `SweepPolicy`."""
        without = ", no curve" if self.reads == "weights" else ""
        return f"learned in the sweep{without}, false stops up to"

    @property
    def setting(self) -> str:
        """The rate, as text."""
        return f"{100 * self.rate:g} %"

    def epochs(self, runs: Sequence[ReplayRun]) -> list[float]:
        """See `SweepPolicy`."""
        predictor = SweepPredictor(max_false_stop_rate=self.rate)
        ended: list[SweepRun] = []
        after = []
        for run in runs:
            predictor.fit(ended)
            whole = self._sweep_run(run)
            stopped = self._stopped(predictor, whole)
            epochs = run.epochs if stopped is None else min(stopped.readings[-1].time, run.epochs)
            # A run whose end is due before the decision takes effect has finished.
            ended.append(whole if stopped is None or epochs >= run.epochs else stopped)
            after.append(epochs)
        return after

    def _stopped(self, predictor: SweepPredictor, run: SweepRun) -> SweepRun | None:
        """The run as it is when it is stopped; None if it is not."""
        if not predictor.ready:
            return None
        for count in range(1, len(run.readings) + 1):
            so_far = replace(run, readings=run.readings[:count], value=None)
            if predictor.decide(so_far).stop:
                return replace(so_far, stopped=True)
        return None

    def _sweep_run(self, run: ReplayRun) -> SweepRun:
        readings = _readings(run, with_curve=self.reads == "weights and curve")
        return SweepRun(parameters(run.config), readings, run.accuracy)


@cache  # a run is part of many sweeps
def _readings(run: ReplayRun, with_curve: bool) -> tuple[Reading, ...]:
    """Readings at all times, with the accuracies of finished epochs, as the callback has with a `monitor`."""
    finite = [snapshot for snapshot in run.history if snapshot.finite]
    curve = run.learning_curve if with_curve else None
    return tuple(Reading.of([finite[0], snapshot], curve) for snapshot in finite[1:])


def parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that a user of a sweep would name; lists are given by their length and sum.

    Args:
        config: of a `RunRecord`.
    """
    options: Mapping[str, Any] = config.get("network_options") or {}
    found: dict[str, Any] = {}
    for name, value in {**config, **options}.items():
        if name in _NO_PARAMETERS:
            continue
        if isinstance(value, (list, tuple)):
            found |= {f"{name}:length": len(value), f"{name}:sum": float(sum(value))}
        else:
            found[name] = value
    return found
