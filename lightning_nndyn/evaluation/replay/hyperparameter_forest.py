"""A stopping rule on hyperparameters alone: runs that look bad are not begun."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_nndyn.evaluation.benchmark.compare import padded
from lightning_nndyn.evaluation.benchmark.method_features import hyperparameter_vector
from lightning_nndyn.evaluation.replay.sampled_sweeps import ReplayRun
from lightning_nndyn.signature.snapshot import Array

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
