"""Ways of stopping the runs of a sweep, each as the order in which it trains them, piece by piece."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from lightning_nndyn.evaluation.cohort.recorded_sweeps import RecordedSweep
from lightning_nndyn.evaluation.replay.policies import pruner_epochs
from lightning_nndyn.evaluation.replay.race import EARLY
from lightning_nndyn.evaluation.replay.sampled_sweeps import best_before
from lightning_nndyn.predictor.policy import Decision
from lightning_nndyn.sweep import DEFAULT_KEEP, ChanceRule, CohortRule, SweepRun
from lightning_nndyn.sweep.standing import StandingModel, standings

Lap = tuple[int, float]
"""A piece of training: the index of a run, and the epoch up to which it is trained."""

Rule = Callable[[SweepRun, Sequence[SweepRun]], Decision]
"""Decides on a run by its readings so far and the runs before it."""

KEEPS = (0.03, DEFAULT_KEEP, 0.12, 0.2, 0.3)
"""Settings of `keep` that are compared."""

OUR_DEFAULT = f"keep={DEFAULT_KEEP:g}"
OTHER_DEFAULTS = ("MedianPruner", "SuccessiveHalvingPruner 1/4", "HyperbandPruner 1/3")
"""Names of ways at their defaults. Halving begins after one epoch, where Optuna would find out when."""

RACE_KEEPS = (0.06, 0.12, 0.25)
"""Shares that a race trains to the end, the default of `lightning_nndyn.study.race` first."""


class Way(Protocol):
    """A way of stopping, at one of its settings.

    Attributes:
        name: with the setting.
        is_ours: whether it is of this package.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def is_ours(self) -> bool: ...  # noqa: D102

    def laps(self, sweep: RecordedSweep, order: Sequence[int], model: StandingModel) -> list[Lap]:
        """What is trained, in this order.

        Args:
            sweep: recorded to its end.
            order: in which the runs begin, their indices.
            model: ranks runs; only our ways use it.
        """
        ...


@dataclass(frozen=True)
class RandomSearch:
    """Every run is trained to its end."""

    name: str = "no stopping"
    is_ours: bool = False

    def laps(self, sweep: RecordedSweep, order: Sequence[int], model: StandingModel) -> list[Lap]:
        """See `Way`."""
        return [(index, sweep.epochs[index]) for index in order]


@dataclass(frozen=True)
class Keep:
    """The callback in a sweep: one run after the other, each compared with those before it."""

    keep: float = DEFAULT_KEEP
    is_ours: bool = True

    @property
    def name(self) -> str:
        """See `Way`."""
        return f"keep={self.keep:g}"

    def laps(self, sweep: RecordedSweep, order: Sequence[int], model: StandingModel) -> list[Lap]:
        """See `Way`."""
        return one_by_one(sweep, CohortRule(self.keep, model).decide, order)


@dataclass(frozen=True)
class Chance:
    """A run without a tuner, which is compared with the earlier records of its log folder."""

    name: str = "no tuner"
    is_ours: bool = True

    def laps(self, sweep: RecordedSweep, order: Sequence[int], model: StandingModel) -> list[Lap]:
        """See `Way`."""
        return one_by_one(sweep, ChanceRule(model=model).decide, order)


@dataclass(frozen=True)
class Raced:
    """A race: all runs begin, and at each rung the better ones go on from their checkpoints."""

    keep: float
    is_ours: bool = True

    @property
    def name(self) -> str:
        """See `Way`."""
        return f"race {100 * self.keep:g} %"

    def laps(self, sweep: RecordedSweep, order: Sequence[int], model: StandingModel) -> list[Lap]:
        """See `Way`."""
        return [*_raced(sweep, order, self.keep, model)]


@dataclass(frozen=True)
class Pruned:
    """One of Optuna's pruners, which is told the accuracy after each epoch.

    Attributes:
        pruner: see `pruner_epochs`.
        settings: arguments of Optuna's class, where they are not the defaults.
    """

    name: str
    pruner: str
    settings: Mapping[str, float] = field(default_factory=dict)
    is_ours: bool = False

    def laps(self, sweep: RecordedSweep, order: Sequence[int], model: StandingModel) -> list[Lap]:
        """See `Way`."""
        curves = [sweep.curves[index] for index in order]
        seed = zlib.crc32(repr(list(order)).encode())
        ends = pruner_epochs(self.pruner, curves, seed, **self.settings)
        return [(index, min(float(end), sweep.epochs[index])) for index, end in zip(order, ends, strict=True)]


def ways_to_compare() -> list[Way]:
    """As many settings of `keep` and races as of Optuna's pruners; no stopping, and a run without a tuner."""
    halvings = [
        Pruned(f"{title} 1/{factor}", pruner, {"reduction_factor": factor})
        for title, pruner in (("SuccessiveHalvingPruner", "asha"), ("HyperbandPruner", "hyperband"))
        for factor in (2, 3, 4)
    ]
    return [
        RandomSearch(),
        *map(Keep, KEEPS),
        Chance(),
        *map(Raced, RACE_KEEPS),
        Pruned("MedianPruner", "median"),
        Pruned("PercentilePruner 25 %", "percentile", {"percentile": 25.0}),
        *halvings,
    ]


def one_by_one(sweep: RecordedSweep, rule: Rule, order: Sequence[int]) -> list[Lap]:
    """Train the runs one after the other under a rule that compares each with those before it."""
    ended: list[SweepRun] = []
    laps = []
    planned = max(sweep.epochs)
    for index in order:
        whole = replace(sweep.runs[index], planned_epochs=planned)
        stopped = _stopped(whole, rule, ended)
        end = sweep.epochs[index]
        laps.append((index, end if stopped is None else min(end, stopped.readings[-1].time)))
        ended.append(whole if stopped is None else stopped)
    return laps


def _stopped(run: SweepRun, rule: Rule, ended: Sequence[SweepRun]) -> SweepRun | None:
    """The run as it is when it is stopped; None if it is not."""
    for count in range(1, len(run.readings) + 1):
        so_far = replace(run, readings=run.readings[:count], value=None)
        if rule(so_far, ended).stop:
            return replace(so_far, stopped=True)
    return None


def _raced(sweep: RecordedSweep, order: Sequence[int], keep: float, model: StandingModel) -> Iterator[Lap]:
    left, paused = [*order], list[tuple[float, int]]()
    for time, power in EARLY:
        for index in left:
            yield index, min(time, sweep.epochs[index])
        read = [index for index in left if sweep.runs[index].at(time) is not None]
        if not read:
            break
        scores, _ = standings([sweep.runs[index] for index in read], time, model)
        ranking = [read[place] for place in np.argsort(-scores, kind="stable")]
        left = ranking[: max(1, round(keep**power * len(order)))]
        paused += [(best_until(sweep, index, time), index) for index in ranking[len(left) :]]
    best = 0.0
    for index in left:
        yield index, sweep.epochs[index]
        best = max(best, best_until(sweep, index, math.inf))
    for seen, index in sorted(paused, reverse=True):
        if seen <= best:  # else the paused run was better at its rung than any at its end
            break
        yield index, sweep.epochs[index]
        best = max(best, best_until(sweep, index, math.inf))


def best_until(sweep: RecordedSweep, run: int, epochs: float) -> float:
    """The best accuracy of a run that is seen until an epoch, a fraction; its final value at its end."""
    if epochs >= sweep.epochs[run]:
        return float(sweep.runs[run].value or 0.0)
    return best_before(sweep.curves[run], epochs)
