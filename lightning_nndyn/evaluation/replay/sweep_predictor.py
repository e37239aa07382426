"""The predictor that learns inside the sweep, from nothing but the sweep's own runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lightning_nndyn.evaluation.replay.sampled_sweeps import Run
from lightning_nndyn.sweep import Reading, SweepPredictor, SweepRun

_NO_PARAMETERS = ("seed", "index", "network_options")


@dataclass(frozen=True)
class Learned:
    """Hyperparameters, weights and curve, after ten runs that are all trained; no predictor from elsewhere.

    Attributes:
        rate: share of the sweep's best quarter that may be lost.
        reads: what beside the hyperparameters.
    """

    rate: float
    reads: Literal["weights and curve", "weights"] = "weights and curve"
    ours: bool = True

    @property
    def family(self) -> str:
        """The name that it shares with those of other settings."""
        without = ", no curve" if self.reads == "weights" else ""
        return f"learned in the sweep{without}, false stops up to"

    @property
    def setting(self) -> str:
        """In words."""
        return f"{100 * self.rate:g} %"

    def epochs(self, runs: Sequence[Run]) -> list[float]:
        """See `SweepPolicy`."""
        predictor = SweepPredictor(max_false_stop_rate=self.rate)
        ended: list[SweepRun] = []
        after = []
        for run in runs:
            predictor.fit(ended)
            stop = self._stop(predictor, self._seen(run))
            epochs = run.epochs if stop is None else min(stop.readings[-1].time, run.epochs)
            # What ends before the decision takes effect has finished.
            ended.append(self._seen(run) if stop is None or epochs >= run.epochs else stop)
            after.append(epochs)
        return after

    def _stop(self, predictor: SweepPredictor, run: SweepRun) -> SweepRun | None:
        """The run as it is when it is stopped; None if it goes on to its end."""
        if not predictor.ready:
            return None
        for count in range(1, len(run.readings) + 1):
            so_far = replace(run, readings=run.readings[:count], value=None)
            if predictor.decide(so_far).stop:
                return replace(so_far, stopped=True)
        return None

    def _seen(self, run: Run) -> SweepRun:
        curve = run.logged if self.reads == "weights and curve" else None
        return SweepRun(parameters(run.record.config), _readings(run, curve), run.accuracy)


def _readings(run: Run, curve: Any) -> tuple[Reading, ...]:
    """At all times; after whole epochs the validation is known, as for the callback with a monitor."""
    found = _memory.get((run, curve is None))
    if found is None:
        finite = [snapshot for snapshot in run.history if snapshot.finite]
        found = tuple(Reading.of([finite[0], snapshot], curve) for snapshot in finite[1:])
        _memory[run, curve is None] = found
    return found


_memory: dict[tuple[Run, bool], tuple[Reading, ...]] = {}  # runs meet in many sweeps


def parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a user would have set: of a list its length and its sum.

    Args:
        config: a record's.
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
