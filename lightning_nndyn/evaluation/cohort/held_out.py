"""How well a model of standings ranks the runs of sweeps whose families and data sets it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from lightning_nndyn.evaluation.cohort.recorded_sweeps import RecordedSweep
from lightning_nndyn.signature.snapshot import Array
from lightning_nndyn.sweep.standing import StandingModel, standings

FAMILY_GROUPS: tuple[tuple[str, ...], ...] = (
    ("resnet", "preactivation_resnet"),
    ("mlp", "mixer"),
    ("plain_cnn", "vgg", "lenet", "alexnet"),
    ("transformer", "vit"),
    ("convnext", "inverted_bottleneck", "unet"),
    ("lstm", "gru"),
)
"""Families that are alike are left out together."""

ZOO, _LIKE_THE_ZOO = "zoo", FAMILY_GROUPS[1] + FAMILY_GROUPS[2]
"""Random networks, which are CNNs and MLPs."""

TIMES = (1 / 16, 1 / 4, 1.0, 2.0, 4.0)
"""At which rankings are measured, in epochs."""

_FEWEST = 6  # runs to rank
_LATEST_PROGRESS = 0.8  # at the end everything ranks well


@dataclass(frozen=True)
class HeldOutPart:
    """Sweeps of alike families on one data set.

    Attributes:
        families: that are alike.
        dataset: the one data set.
        is_grid: whether these are grids of the paper's settings or of random networks.
    """

    families: tuple[str, ...]
    dataset: str
    is_grid: bool

    @property
    def name(self) -> str:
        """For readers."""
        return f"{'grids of ' if self.is_grid else ''}{', '.join(self.families)} on {self.dataset}"

    def unseen(self, sweeps: Sequence[RecordedSweep]) -> list[RecordedSweep]:
        """The sweeps of this part."""
        return [sweep for sweep in sweeps if self == part_of_sweep(sweep)]

    def fitted(self, sweeps: Sequence[RecordedSweep]) -> list[RecordedSweep]:
        """The sweeps to which a model for this part is fitted.

        They share neither families nor data with it. All grids have the same learning rates, dropout rates
        and seeds: a grid's model has seen no grid.
        """
        left_out = {*self.families}
        if left_out & {*_LIKE_THE_ZOO}:
            left_out.add(ZOO)
        if ZOO in self.families:
            left_out.update(_LIKE_THE_ZOO)
        return [
            sweep
            for sweep in sweeps
            if sweep.family not in left_out
            and sweep.dataset != self.dataset
            and not (self.is_grid and sweep.is_grid)
        ]


def part_of_sweep(sweep: RecordedSweep) -> HeldOutPart:
    """The part that a sweep belongs to."""
    families = next((group for group in FAMILY_GROUPS if sweep.family in group), (sweep.family,))
    return HeldOutPart(families, sweep.dataset, sweep.is_grid)


def rank_correlations(
    sweep: RecordedSweep, models: dict[str, StandingModel], time: float
) -> dict[str, float] | None:
    """Spearman's correlation of each ranking at a time with the final accuracies.

    Args:
        sweep: recorded to its end.
        models: by their names.
        time: in epochs.

    Returns:
        Of the models' standings, of the accuracy and of the loss so far, and of the learning rate (NaN where
        there is none); None where less than six runs were read then, or the sweep is nearly over.
    """
    runs = [run for run in sweep.runs if run.at(time) is not None]
    if len(runs) < _FEWEST or time > _LATEST_PROGRESS * max(sweep.epochs):
        return None
    values = np.array([run.value for run in runs], dtype=np.float64)
    curves = [list(one.curve) for run in runs if (one := run.at(time)) is not None]
    scores = {name: standings(runs, time, model)[0] for name, model in models.items()} | {
        "accuracy so far": np.array([curve[-2] if len(curve) > 2 else np.nan for curve in curves]),
        "loss so far": np.array([-curve[1] if len(curve) in (2, 5) else np.nan for curve in curves]),
        "learning rate": np.array([run.params["learning_rate"] for run in runs], dtype=np.float64),
    }
    return {name: _correlation(score, values) for name, score in scores.items()}


def _correlation(scores: Array, values: Array) -> float:
    known = np.isfinite(scores)
    if known.sum() < _FEWEST or len(np.unique(scores[known])) < 2:
        return float("nan")
    return float(spearmanr(scores[known], values[known])[0])
