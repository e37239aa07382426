"""The runs that a predictor is fitted to: checked, classified as low or good, and split into folds."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor.history import diverged_at, index_by_epoch
from lightning_nndyn.predictor.learning_curve import LearningCurve
from lightning_nndyn.predictor.low_accuracy import LowAccuracyRule, relative_accuracies
from lightning_nndyn.signature.snapshot import Array, Mask, Snapshot

FOLDS = 5
"""Folds of the cross-validation, as in the paper."""

MIN_PER_CLASS = FOLDS
"""Fewest runs of either class that a model is fitted to: one a fold."""

MIN_POPULATIONS = 3
"""Fewest populations of which some can be held out, while the others still show what they have in common."""

_NAMED = 3  # runs in a message


class Targets(NamedTuple):
    """How runs ended: low or not, final accuracy, the same as a share of the best; and their populations.

    Each of shape [n].
    """

    low: Mask
    accuracies: Array
    relative: Array
    populations: NDArray[np.str_]

    def take(self, chosen: Any) -> Targets:
        """Some of the runs, by their indices or a mask."""
        return Targets(*(values[chosen] for values in self))


class TrainingSet:
    """Runs in memory: histories by epoch, learning curves, how the runs ended, and their folds.

    Args:
        histories: the snapshots of each run.
        accuracies: final accuracies, fractions.
        rule: which accuracies are low.
        curves: what each run has logged; None if that is not known.
        groups: runs of one group are never on both sides of a split.
        populations: the runs of one network on one data set have the same name; accuracies are compared
            within them.
        seed: of the folds.

    Attributes:
        histories: snapshots by epoch, for each run.
        targets: how the runs ended.
        diverged: epoch from which on a run's weights are not finite; None for a run without such an epoch.
        holds_out_populations: whether folds consist of whole populations, as there are enough of them.
        folds: the fold of each run, shape [n].

    Raises:
        PredictorError: too few runs of one class, graphs of more than one topology, or malformed input.
    """

    def __init__(
        self,
        histories: Sequence[Sequence[Snapshot]],
        accuracies: Sequence[float],
        rule: LowAccuracyRule,
        *,
        curves: Sequence[LearningCurve | None] | None = None,
        groups: Sequence[Hashable] | None = None,
        populations: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.histories = [index_by_epoch(history) for history in histories]
        count = len(self.histories)
        check_topologies({f"run {i}": history[0.0].topology for i, history in enumerate(self.histories)})
        checked = _checked_accuracies(accuracies, count)
        self.curves = list(curves) if curves is not None else [None] * count
        names = np.array(populations if populations is not None else [""] * count)
        for what, given in (("curves", self.curves), ("populations", names)):
            if len(given) != count:
                raise PredictorError(f"got {count} histories and {len(given)} {what}; give one for each")
        # Without a curve the number of classes is unknown; guessing then counts as 0.
        guesses = np.array([0.0 if curve is None else 1 / curve.classes for curve in self.curves])
        relative = relative_accuracies(checked, names, guesses)
        self.targets = Targets(rule.low(checked, relative), checked, relative, names)
        self.diverged = [diverged_at(history) for history in self.histories]
        self.holds_out_populations = len(set(names)) >= MIN_POPULATIONS
        self.folds = _folds(self.targets.low, groups, seed)  # refuses too few groups in either case
        if self.holds_out_populations:
            self.folds = _folds_of_populations(self.targets.low, names, seed)

    def __len__(self) -> int:
        return len(self.histories)

    def times(self, max_epoch: float) -> list[float]:
        """All epochs after 0 at which some run was read, up to `max_epoch`, ascending."""
        return sorted({epoch for history in self.histories for epoch in history if 0 < epoch <= max_epoch})

    def indices_read_at(self, times: Sequence[float], with_curve: bool = False) -> NDArray[np.int64]:
        """Indices of the runs that were read at all of `times` and had not diverged by the last of them.

        With `with_curve`, their learning curves must reach that far as well.
        """
        rows = zip(self.histories, self.diverged, self.curves, strict=True)
        usable = [
            all(time in history for time in times)
            and (diverged is None or diverged > times[-1])
            and (not with_curve or (curve is not None and curve.known(times)))
            for history, diverged, curve in rows
        ]
        return np.flatnonzero(usable)


def _checked_accuracies(accuracies: Sequence[float], runs: int) -> Array:
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
    if groups is None:
        return _numbered_folds(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(low, low), low)
    numbers = _numbered_groups(groups, len(low))
    splits = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(low, low, numbers)
    return _numbered_folds(splits, low)


def _folds_of_populations(low: Mask, populations: NDArray[Any], seed: int) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedGroupKFold

    count = min(FOLDS, len(set(populations)))
    splits = StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(low, low, populations)
    return _numbered_folds(splits, low)


def _numbered_folds(splits: Any, low: Mask) -> NDArray[np.int64]:
    folds = np.zeros(len(low), dtype=np.int64)
    for fold, (_, held_out) in enumerate(splits):
        folds[held_out] = fold
    return folds


def _numbered_groups(groups: Sequence[Hashable], runs: int) -> list[int]:
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
