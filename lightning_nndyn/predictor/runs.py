"""A corpus in memory, checked, classified and split into folds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor.features import Array, Mask, broken_epoch, tabulate
from lightning_nndyn.signature import Snapshot

FOLDS = 5
"""Folds of the cross-validation, as in the paper."""
MIN_PER_CLASS = FOLDS
"""Fewest runs of either class a model is fitted to: one a fold."""


class Runs:
    """A corpus in memory: snapshots by epoch, final accuracies, classes and folds of its runs."""

    def __init__(
        self,
        histories: Sequence[Sequence[Snapshot]],
        accuracies: Sequence[float],
        low_threshold: float,
        groups: Sequence[Hashable] | None,
        seed: int,
    ) -> None:
        self.tables = [tabulate(history) for history in histories]
        self.accuracies = _checked(accuracies, len(self.tables))
        self.low: Mask = self.accuracies < low_threshold
        self.broken = [broken_epoch(table) for table in self.tables]
        self.folds = _folds(self.low, groups, seed)

    def times(self, max_epoch: float) -> list[float]:
        """All epochs after 0 at which some run was read, up to `max_epoch`, ascending."""
        return sorted({epoch for table in self.tables for epoch in table if 0 < epoch <= max_epoch})

    def usable(self, times: Sequence[float]) -> list[int]:
        """Indices of the runs that were read at all of `times` and had not diverged by the last of them."""
        return [
            i
            for i, (table, broken) in enumerate(zip(self.tables, self.broken, strict=True))
            if all(time in table for time in times) and (broken is None or broken > times[-1])
        ]


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


def _numbered(groups: Sequence[Hashable], runs: int) -> list[int]:
    if len(groups) != runs:
        raise PredictorError(f"got {runs} histories and {len(groups)} groups; give one for each")
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    if len(number) < FOLDS:
        raise PredictorError(f"{FOLDS}-fold cross-validation needs {FOLDS} groups or more, got {len(number)}")
    return [number[group] for group in groups]


def check_classes(low: Mask, where: str, way_out: str) -> None:
    """Raise PredictorError unless there are `MIN_PER_CLASS` runs of either class."""
    counts = {"low": int(low.sum()), "good": int((~low).sum())}
    if min(counts.values()) < MIN_PER_CLASS:
        raise PredictorError(
            f"{counts['low']} low and {counts['good']} good runs {where}: "
            f"a predictor needs at least {MIN_PER_CLASS} of each. {way_out}"
        )
