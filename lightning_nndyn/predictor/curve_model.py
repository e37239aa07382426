"""Predicts how a run ends from its learning curve alone, at any epoch's end, whatever its network and data.

The forests of `Predictor` read the weights of networks like those of their fit, for a few epochs. This model
goes on to the end of the run, and speaks of networks that no predictor knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nndyn._files import shipped_folder
from lightning_nndyn.predictor.array_file import check_array, read_arrays, write_arrays
from lightning_nndyn.predictor.forest import OUTPUTS, Forest
from lightning_nndyn.predictor.learning_curve import (
    SMALLEST_GAIN,
    SMALLEST_LOSS,
    LearningCurve,
    above_guessing,
    losses_by_guessing,
)
from lightning_nndyn.predictor.risk import RiskScale
from lightning_nndyn.predictor.verdict import CURVE, Verdict
from lightning_nndyn.signature.snapshot import Array

INPUTS = (
    "accuracy", "best accuracy", "log best accuracy", "last gain", "gain since halfway", "first accuracy",
    "gain since the first", "share of epochs since the best", "spread of the last accuracies", "loss",
    "least loss", "log least loss", "loss's fall since the first", "loss's last fall",
    "loss's fall since halfway", "share of the plan", "log planned epochs", "log classes",
)  # fmt: skip
"""What the model reads. Accuracies are 0 for guessing and 1 at best, losses 1 for guessing."""

EARLIEST = 0.25
"""Share of the plan before which nothing is predicted: many good runs begin with a plateau."""

_LONGEST = 2.0  # times the longest plan of the fit, and half of the shortest
_HIGHEST_FIRST_LOSS = (
    2.0  # times guessing: sums over a batch, and other losses than cross-entropy, are higher
)
_SPREAD_OVER = 4  # accuracies


@dataclass(frozen=True)
class CurveModel:
    """A forest on the learning curve, with the risks that held-out good runs had.

    Attributes:
        forest: predicts whether a run is low, its final accuracy and its relative accuracy, the latter two
            as shares of what lies above guessing.
        risk: the scale of the first of these.
        planned_epochs: the fewest and the most that runs of the fit were planned for.
        max_risks_of_good_runs: the largest risk of each good run, by models that had seen neither the run's
            data set nor families like its network's; a group for each group of families.
    """

    forest: Forest
    risk: RiskScale
    planned_epochs: tuple[float, float]
    max_risks_of_good_runs: tuple[tuple[float, ...], ...]

    def knows(self, planned_epochs: float | None) -> bool:
        """Whether runs of such a length are known."""
        fewest, most = self.planned_epochs
        return planned_epochs is not None and fewest / _LONGEST <= planned_epochs <= most * _LONGEST

    def predict(self, curve: LearningCurve, epoch: int, planned_epochs: float | None) -> Verdict | None:
        """Predict how a run ends.

        Args:
            curve: accuracies and losses after each epoch so far.
            epoch: how many have ended.
            planned_epochs: the run's length.

        Returns:
            The verdict; None where the curve or the plan is not known, or it is early in the plan.
        """
        if planned_epochs is None or not self.knows(planned_epochs) or not can_read(curve, epoch):
            return None
        if epoch < first_epoch(planned_epochs):
            return None
        low, gain, relative = self.forest(curve_inputs(curve, epoch, planned_epochs)[None])[0]
        guess = 1 / curve.classes
        return Verdict(
            predicted_accuracy=float(guess + gain * (1 - guess)),
            p_low=float(low),
            epoch=float(epoch),
            in_domain=True,
            relative_accuracy=float(relative),
            risk=self.risk(float(low)),
            kind=CURVE,
        )

    def save(self, path: Path) -> None:
        """Write a file of plain arrays (NumPy's ``.npz``)."""
        groups = self.max_risks_of_good_runs
        arrays = {
            **self.forest.to_arrays(),
            "risk": np.array(self.risk),
            "planned_epochs": np.array(self.planned_epochs, dtype=np.float64),
            "good_risks": np.concatenate([np.array(group) for group in groups]),
            "group_sizes": np.array([len(group) for group in groups]),
        }
        write_arrays(path, INPUTS, arrays)

    @classmethod
    def load(cls, path: Path) -> CurveModel:
        """The inverse of `save`.

        Raises:
            ArtefactError: the file is missing, or is not of such a model.
        """
        return read_arrays(path, INPUTS, cls._checked, "learning curves")

    @classmethod
    def _checked(cls, arrays: dict[str, Any]) -> CurveModel:
        risk, planned, risks, sizes = (
            arrays.pop(name) for name in ("risk", "planned_epochs", "good_risks", "group_sizes")
        )
        check_array(risk, "f", (2,))
        check_array(planned, "f", (2,), 0)
        check_array(risks, "f", (None,))
        check_array(sizes, "i", (None,), 1, len(risks))
        if sizes.sum() != len(risks) or risk[1] <= 0:
            raise ValueError("its risks are not those of good runs")
        forest = Forest.from_arrays(arrays)
        check_array(forest.importances, "f", (len(INPUTS),), 0)
        check_array(forest.values, "f", (None, OUTPUTS), 0, 1)
        groups = np.split(risks, np.cumsum(sizes)[:-1])
        return cls(
            forest,
            RiskScale(*map(float, risk)),
            (float(planned[0]), float(planned[1])),
            tuple(tuple(map(float, group)) for group in groups),
        )


@lru_cache(maxsize=1)
def shipped_curve_model() -> CurveModel:
    """The model that ships, `curve`."""
    return CurveModel.load(shipped_folder("pretrained_predictors") / "curve.npz")


def first_epoch(planned_epochs: float) -> int:
    """The epoch after which a run of that length is predicted at the earliest."""
    return max(1, math.ceil(EARLIEST * planned_epochs))


def can_read(curve: LearningCurve, epoch: int) -> bool:
    """Whether there are an accuracy and a loss for each epoch so far, and the loss may be a cross-entropy."""
    accuracies = curve.accuracies[:epoch]
    losses = [curve.losses.get(float(e), (math.nan,))[0] for e in range(1, epoch + 1)]
    return (
        len(accuracies) == epoch > 0
        and all(map(math.isfinite, [*accuracies, *losses]))
        and losses[0] <= _HIGHEST_FIRST_LOSS * math.log(curve.classes)
    )


def curve_inputs(curve: LearningCurve, epoch: int, planned_epochs: float) -> Array:
    """The numbers `INPUTS` of a curve that can be read; shape [inputs].

    Args:
        curve: of a run.
        epoch: how many have ended.
        planned_epochs: the run's length.
    """
    gains, losses = above_guessing(curve, epoch), losses_by_guessing(curve, epoch)
    best, halfway, before = max(gains), max(0, (epoch + 1) // 2 - 1), max(0, epoch - 2)
    return np.array([
        gains[-1],
        best,
        math.log(max(best, 0.0) + SMALLEST_GAIN),
        gains[-1] - gains[before],
        best - gains[halfway],
        gains[0],
        best - gains[0],
        (epoch - 1 - gains.index(best)) / epoch,
        float(np.std(gains[-_SPREAD_OVER:])),
        losses[-1],
        min(losses),
        math.log(max(min(losses), SMALLEST_LOSS)),
        losses[0] - losses[-1],
        losses[before] - losses[-1],
        losses[halfway] - losses[-1],
        epoch / planned_epochs,
        math.log(planned_epochs),
        math.log(curve.classes),
    ])  # fmt: skip
