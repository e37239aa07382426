"""What hyperparameters alone say: runs that look bad before they have begun are left out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_nndyn.evaluation.benchmark.compare import table
from lightning_nndyn.evaluation.benchmark.method_features import hyperparameters
from lightning_nndyn.evaluation.benchmark.study import Array
from lightning_nndyn.evaluation.replay.sampled_sweeps import Run

_TREES = 50
_GROWTH = 1.1  # times as many finished runs make another fit worthwhile


@dataclass(frozen=True)
class Surrogate:
    """A forest on the hyperparameters of the sweep's finished runs chooses which runs begin.

    The first runs are all trained. From then on a run begins if its predicted accuracy is in the best share
    of the predictions for all runs so far: for finished ones out of bag, so that they have no advantage.

    Attributes:
        share: of the runs.
        startup: runs that are trained first.
    """

    share: float
    startup: int = 10
    family: str = "hyperparameters"
    ours: bool = False

    @property
    def setting(self) -> str:
        """In words."""
        return f"{100 * self.share:g} %"

    def epochs(self, runs: Sequence[Run]) -> list[float]:
        """See `SweepPolicy`."""
        x = table([hyperparameters(run.record, 0.0) for run in runs])
        accuracies = np.array([run.accuracy for run in runs])
        finished: list[int] = []
        known, predicted = 0, np.empty(0)
        for place in range(len(runs)):
            if len(finished) >= max(self.startup, math.ceil(_GROWTH * known)):
                known, predicted = len(finished), _predicted(x, accuracies, finished)
            if place < self.startup or self._begins(predicted[: place + 1]):
                finished.append(place)
        begun = set(finished)
        return [run.epochs if place in begun else 0.0 for place, run in enumerate(runs)]

    def _begins(self, predicted: Array) -> bool:
        """Whether the last of these is one of the best."""
        better = int((predicted[:-1] > predicted[-1]).sum())
        return better < max(1, round(self.share * len(predicted)))


def _predicted(x: Array, accuracies: Array, finished: Sequence[int]) -> Array:
    """Accuracies of all runs, shape [n], by a forest fitted to the finished ones."""
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(_TREES, bootstrap=True, oob_score=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a run may be in all bags
        forest.fit(x[finished], accuracies[finished])
    predicted = np.asarray(forest.predict(x), dtype=np.float64)
    predicted[finished] = forest.oob_prediction_
    return predicted
