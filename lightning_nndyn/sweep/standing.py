"""The standing of a sweep's runs: who will end above whom, by a model that knows neither network nor data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from lightning_nndyn._files import shipped_folder
from lightning_nndyn.predictor.array_file import check_array, read_arrays, write_arrays
from lightning_nndyn.signature.snapshot import Array
from lightning_nndyn.sweep.cohort import INPUTS, cohort_table, has_diverged, normal_scores, ranks
from lightning_nndyn.sweep.run import SweepRun

_LOWEST = -4.0  # the standing of a run that has diverged
_DIGITS = 6  # of a standing: the order of the runs changes the last bits of a matrix product
LOG_STD_RANGE = (-2.0, 1.0)
"""Of the logarithm of a standing's standard deviation."""


@dataclass(frozen=True)
class StandingModel:
    """A committee of small networks, each with a linear path beside its two hidden layers.

    Input are the columns `INPUTS`, output is a run's standing: the normal score of its final value among the
    cohort's, with a standard deviation.

    Attributes:
        linear: weights of the linear path, shape [members, inputs].
        first, second: weights of the hidden layers, shape [members, inputs, units], [members, units, units].
        first_bias, second_bias: shape [members, units].
        last: weights to mean and log standard deviation, shape [members, units, 2].
        last_bias: shape [members, 2].
    """

    linear: Array
    first: Array
    first_bias: Array
    second: Array
    second_bias: Array
    last: Array
    last_bias: Array

    def __call__(self, table: Array) -> tuple[Array, Array]:
        """Means and standard deviations of the standings, shape [runs] each.

        Args:
            table: shape [runs, inputs].
        """
        hidden = np.maximum(np.einsum("ri,miu->mru", table, self.first) + self.first_bias[:, None], 0)
        hidden = np.maximum(hidden @ self.second + self.second_bias[:, None], 0)
        out = hidden @ self.last + self.last_bias[:, None]
        means = out[..., 0] + self.linear @ table.T
        variances = np.exp(2 * np.clip(out[..., 1], *LOG_STD_RANGE))
        # Of a mixture of normal distributions: members that disagree are less sure.
        return means.mean(axis=0), np.sqrt(variances.mean(axis=0) + means.var(axis=0))

    def save(self, path: Path) -> None:
        """Write a file of plain arrays (NumPy's ``.npz``)."""
        arrays = {field.name: getattr(self, field.name).astype(np.float32) for field in fields(self)}
        write_arrays(path, INPUTS, arrays)

    @classmethod
    def load(cls, path: Path) -> StandingModel:
        """The inverse of `save`.

        Raises:
            ArtefactError: the file is missing, or is not of such a model.
        """
        return read_arrays(path, INPUTS, cls._checked, "standings")

    @classmethod
    def _checked(cls, arrays: Mapping[str, Any]) -> StandingModel:
        found = cls(**{field.name: arrays[field.name] for field in fields(cls)})
        check_array(found.first, "f", (None, len(INPUTS), None))
        members, _, units = found.first.shape
        check_array(found.linear, "f", (members, len(INPUTS)))
        check_array(found.second, "f", (members, units, units))
        check_array(found.last, "f", (members, units, 2))
        check_array(found.last_bias, "f", (members, 2))
        for bias in (found.first_bias, found.second_bias):
            check_array(bias, "f", (members, units))
        return cls(**{field.name: getattr(found, field.name).astype(np.float64) for field in fields(cls)})


@lru_cache(maxsize=1)
def shipped_model() -> StandingModel:
    """The model that ships, `cohort`."""
    return StandingModel.load(shipped_folder("pretrained_predictors") / "cohort.npz")


def standings(
    runs: Sequence[SweepRun], time: float, model: StandingModel | None = None
) -> tuple[Array, Array]:
    """Expected standings of a cohort's runs among each other, with standard deviations, shape [runs] each.

    Args:
        runs: those of a sweep that were read at the time.
        time: of the readings.
        model: None for the one that ships.
    """
    mean, std = (model or shipped_model())(cohort_table(runs, time))
    diverged = has_diverged(runs, time)
    return np.where(diverged, _LOWEST, np.round(mean, _DIGITS)), np.where(diverged, 0.1, std)


def rank(
    runs: Sequence[SweepRun],
    *,
    direction: Literal["maximize", "minimize"] = "maximize",
    model: StandingModel | None = None,
) -> list[float]:
    """Rank the runs of one sweep by how they are expected to end, each by its latest reading.

    Runs are compared with all that were read at the same time, whether these go on, have finished or were
    stopped. A later time only changes places among the runs that have reached it. Finished runs are ordered
    by their values. The order of `runs` does not matter.

    Args:
        runs: in any state; three or more, as two tell little of each other.
        direction: whether large or small final values are good.
        model: None for the one that ships.

    Returns:
        A score for each run, larger is better; 0 for runs that cannot be compared.
    """
    scores, seen = np.zeros(len(runs)), np.zeros(len(runs), dtype=bool)
    times = sorted({reading.time for run in runs for reading in run.readings if reading.time > 0})
    for time in times:
        members = [index for index, run in enumerate(runs) if run.at(time) is not None]
        mean, _ = standings([runs[index] for index in members], time, model)
        _reorder(scores, seen, members, mean)
    sign = 1.0 if direction == "maximize" else -1.0
    finished = [index for index, run in enumerate(runs) if run.finished]
    values = np.array([runs[index].value for index in finished], dtype=np.float64)
    _reorder(scores, seen, finished, sign * values)
    return [float(score) for score in scores]


def _reorder(scores: Array, seen: NDArray[np.bool_], runs: Sequence[int], by: Array) -> None:
    """Exchange the places that some of the runs have among all, so that their order is that of `by`.

    Args:
        scores: of all runs, changed in place; shape [n].
        seen: which of them have a place, changed in place; shape [n].
        runs: indices of those to be ordered; runs without a place get one by their ranks among these.
        by: shape of `runs`.
    """
    if not runs:
        return
    members = np.array(runs)
    new = ~seen[members]
    scores[members[new]] = normal_scores(by[:, None])[new, 0]
    seen[members] = True
    places = np.sort(scores[members])
    scores[members] = np.interp(ranks(by[:, None])[:, 0], np.arange(len(members)), places)


def chance_among_best(mean: float, std: float, share: float) -> float:
    """The probability that a run of this standing ends among the best `share` of its cohort."""
    return float(ndtr((mean - float(ndtri(1 - share))) / std))
