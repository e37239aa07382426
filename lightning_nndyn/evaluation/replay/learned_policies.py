"""Stopping rules that learn inside the sweep, from the sweep's own runs only."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np

from lightning_nndyn.evaluation.benchmark.compare import padded
from lightning_nndyn.evaluation.benchmark.methods import hyperparameter_vector
from lightning_nndyn.evaluation.replay.sampled_sweeps import ReplayRun
from lightning_nndyn.signature.snapshot import Array
from lightning_nndyn.sweep import Reading, SweepPredictor, SweepRun

_TREES = 50
_GROWTH = 1.1  # the forest is fitted again once there are so many times as many finished runs


@dataclass(frozen=True)
class Surrogate:
    """A forest on the hyperparameters of the sweep's finished runs chooses which runs begin.

    The first runs are all trained. From then on a run begins if its predicted accuracy is in the best share
    of the predictions for all runs so far; predictions for finished runs are out of bag, and so unbiased.

    Attributes:
        share: of the runs.
        startup: number of runs that are trained in any case.
        family: see `SweepPolicy`.
    """

    share: float
    startup: int = 10
    family: str = "hyperparameters"
    ours: bool = False

    @property
    def setting(self) -> str:
        """The share, as text."""
        return f"{100 * self.share:g} %"

    def epochs(self, runs: Sequence[ReplayRun]) -> list[float]:
        """See `SweepPolicy`."""
        x = padded([hyperparameter_vector(run.config) for run in runs])
        accuracies = np.array([run.accuracy for run in runs])
        finished: list[int] = []
        num_fitted, predicted = 0, np.empty(0)
        for index in range(len(runs)):
            if len(finished) >= max(self.startup, math.ceil(_GROWTH * num_fitted)):
                num_fitted, predicted = len(finished), _predicted(x, accuracies, finished)
            if index < self.startup or self._begins(predicted[: index + 1]):
                finished.append(index)
        begun = set(finished)
        return [run.epochs if index in begun else 0.0 for index, run in enumerate(runs)]

    def _begins(self, predicted: Array) -> bool:
        """Whether the last prediction is in the best share."""
        better = int((predicted[:-1] > predicted[-1]).sum())
        return better < max(1, round(self.share * len(predicted)))


def _predicted(x: Array, accuracies: Array, finished: Sequence[int]) -> Array:
    """Accuracies of all runs, by a forest fitted to the finished ones; shape [n]."""
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(_TREES, bootstrap=True, oob_score=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # with few trees a run may be in all bags
        forest.fit(x[finished], accuracies[finished])
    predicted = np.asarray(forest.predict(x), dtype=np.float64)
    predicted[finished] = forest.oob_prediction_
    return predicted


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
