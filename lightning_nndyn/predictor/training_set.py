"""A corpus in memory, checked, classified and split into folds."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor.features import Array, Mask, broken_epoch, tabulate
from lightning_nndyn.predictor.learning_curve import Curve
from lightning_nndyn.signature.snapshot import Snapshot

FOLDS = 5
"""Folds of the cross-validation, as in the paper."""
MIN_PER_CLASS = FOLDS
"""Fewest runs of either class a model is fitted to: one a fold."""


MIN_POPULATIONS = 3
"""Fewest populations of which some can be held out, and the others still tell what they have in common."""

_NAMED = 3  # runs in a message


class Runs:
    """A corpus in memory: snapshots by epoch, curves, final accuracies, classes and folds of its runs.

    Args:
        histories: the snapshots of each run.
        accuracies: final accuracies, fractions.
        bar: below which a run is low.
        curves: what each run has logged; None where that is not known.
        groups: runs of one group are never on both sides of a split.
        populations: what each run's accuracy is compared with: the runs of one network on one data set.
        seed: of the folds.

    Attributes:
        apart: whether whole populations are held out, as there are enough of them to learn from the others.
    """

    def __init__(
        self,
        histories: Sequence[Sequence[Snapshot]],
        accuracies: Sequence[float],
        bar: Bar,
        *,
        curves: Sequence[Curve | None] | None = None,
        groups: Sequence[Hashable] | None = None,
        populations: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.tables = [tabulate(history) for history in histories]
        count = len(self.tables)
        check_topologies({f"run {i}": table[0.0].topology for i, table in enumerate(self.tables)})
        self.accuracies = _checked(accuracies, count)
        self.curves = list(curves) if curves is not None else [None] * count
        self.populations = np.array(populations if populations is not None else [""] * count)
        for name, given in (("curves", self.curves), ("populations", self.populations)):
            if len(given) != count:
                raise PredictorError(f"got {count} histories and {len(given)} {name}; give one for each")
        self.relative = relative_accuracies(self.accuracies, self.populations, self._guesses())
        self.low: Mask = bar.low(self.accuracies, self.relative)
        self.broken = [broken_epoch(table) for table in self.tables]
        self.apart = len(set(self.populations)) >= MIN_POPULATIONS
        self.folds = _folds(self.low, groups, seed)
        if self.apart:
            self.folds = _folds_of_populations(self.low, self.populations, seed)

    def times(self, max_epoch: float) -> list[float]:
        """All epochs after 0 at which some run was read, up to `max_epoch`, ascending."""
        return sorted({epoch for table in self.tables for epoch in table if 0 < epoch <= max_epoch})

    def usable(self, times: Sequence[float], fused: bool = False) -> list[int]:
        """Indices of the runs that were read at all of `times` and had not diverged by the last of them.

        With `fused`, their curves must reach that far as well.
        """
        return [
            i
            for i, (table, broken, curve) in enumerate(
                zip(self.tables, self.broken, self.curves, strict=True)
            )
            if all(time in table for time in times)
            and (broken is None or broken > times[-1])
            and (not fused or (curve is not None and curve.known(times)))
        ]

    def _guesses(self) -> Array:
        return np.array([0.0 if curve is None else 1 / curve.classes for curve in self.curves])


@dataclass(frozen=True)
class Bar:
    """What a run must reach to be good: an accuracy, or a share of the best of its kind.

    Raises:
        PredictorError: not exactly one is given, or it is not within (0, 1).
    """

    accuracy: float | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        given = {"low_threshold": self.accuracy, "low_share": self.share}
        known = {name: value for name, value in given.items() if value is not None}
        if len(known) != 1:
            raise PredictorError(
                "pass low_threshold, an accuracy, or low_share, a share of the best one: one of them"
            )
        for name, value in known.items():
            if not 0 < value < 1:
                raise PredictorError(f"{name}={value} is not a fraction in (0, 1), such as 0.4")

    def low(self, accuracies: Array, relative: Array) -> Mask:
        """Which runs stay below it."""
        return relative < self.share if self.share is not None else accuracies < float(self.accuracy or 0)

    def __str__(self) -> str:
        """In words, after "low is "."""
        if self.share is not None:
            return f"below {self.share:.0%} of the best"
        return f"below {self.accuracy:.0%}"


def relative_accuracies(accuracies: Array, populations: NDArray[Any], guesses: Array) -> Array:
    """Accuracies as shares of what can be reached: 0 for guessing, 1 for the best run of the same population.

    Args:
        accuracies: fractions, shape [n].
        populations: of one network on one data set each, shape [n].
        guesses: what guessing gives, shape [n].
    """
    relative = np.empty(len(accuracies))
    for population in np.unique(populations):
        own = populations == population
        span = np.maximum(accuracies[own].max() - guesses[own], 1e-9)
        relative[own] = (accuracies[own] - guesses[own]) / span
    return np.clip(relative, 0, 1)


def _checked(accuracies: Sequence[float], runs: int) -> Array:
    values = np.asarray(accuracies, dtype=np.float64).reshape(-1)
    if len(values) != runs or runs == 0:
        raise PredictorError(f"got {runs} histories and {len(values)} accuracies; give one for each")
    wrong = values[~((values >= 0) & (values <= 1))]
    if len(wrong):
        raise PredictorError(
            f"accuracies are fractions in [0, 1], got {wrong[0]:g}; divide percentages by 100"
        )
    return values


def _folds(low: Mask, groups: Sequence[Hashable] | None, seed: int) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    check_classes(low, "in the corpus", "Train more runs, or set low_threshold so that both classes occur.")
    folds = np.zeros(len(low), dtype=np.int64)
    if groups is None:
        splits = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(low, low)
    else:
        numbers = _numbered(groups, len(low))
        splits = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(low, low, numbers)
    for fold, (_, held) in enumerate(splits):
        folds[held] = fold
    return folds


def _folds_of_populations(low: Mask, populations: NDArray[Any], seed: int) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedGroupKFold

    count = min(FOLDS, len(set(populations)))
    folds = np.zeros(len(low), dtype=np.int64)
    splits = StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(low, low, populations)
    for fold, (_, held) in enumerate(splits):
        folds[held] = fold
    return folds


def _numbered(groups: Sequence[Hashable], runs: int) -> list[int]:
    if len(groups) != runs:
        raise PredictorError(f"got {runs} histories and {len(groups)} groups; give one for each")
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    if len(number) < FOLDS:
        raise PredictorError(f"{FOLDS}-fold cross-validation needs {FOLDS} groups or more, got {len(number)}")
    return [number[group] for group in groups]


def check_topologies(topologies: Mapping[str, str]) -> None:
    """Raise PredictorError unless all runs, given by name, have graphs of one topology."""
    runs: dict[str, list[str]] = {}
    for name, topology in topologies.items():
        runs.setdefault(topology, []).append(name)
    if len(runs) > 1:
        found = " and ".join(f"{topology!r} ({_some(names)})" for topology, names in sorted(runs.items()))
        raise PredictorError(
            f"the graphs are of more than one topology: {found}. Their numbers do not compare: fit a "
            "predictor to the runs of each"
        )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def check_classes(low: Mask, where: str, way_out: str) -> None:
    """Raise PredictorError unless there are `MIN_PER_CLASS` runs of either class."""
    counts = {"low": int(low.sum()), "good": int((~low).sum())}
    if min(counts.values()) < MIN_PER_CLASS:
        raise PredictorError(
            f"{counts['low']} low and {counts['good']} good runs {where}: "
            f"a predictor needs at least {MIN_PER_CLASS} of each. {way_out}"
        )
