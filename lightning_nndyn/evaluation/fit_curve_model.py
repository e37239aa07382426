"""Fits the model of learning curves, and measures it on runs whose networks and data it has not seen."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn._files import write_atomically
from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation.cohort.held_out import FAMILY_GROUPS
from lightning_nndyn.evaluation.cohort.recorded_sweeps import RecordedSweep
from lightning_nndyn.evaluation.dataset import curve_of
from lightning_nndyn.evaluation.fit_corpora import LOW_SHARE
from lightning_nndyn.predictor import LearningCurve
from lightning_nndyn.predictor.curve_model import INPUTS, CurveModel, can_read, curve_inputs, first_epoch
from lightning_nndyn.predictor.forest import Forest, fit_forest
from lightning_nndyn.predictor.risk import RiskScale
from lightning_nndyn.signature.snapshot import Array, Mask

DATASET_GROUPS: tuple[tuple[str, ...], ...] = (("cifar10",), ("imagenet100",), ("digits", "digits_table"))
"""Data sets that are left out together; all others are one group more."""

_TREES, _ROWS_PER_LEAF = 30, 10
_EPOCHS_OF_A_RUN = 8  # that are fitted: epochs of one run tell the same
_LEAST_ABOVE_GUESSING = 0.05  # by the best of a sweep: where no run learns, none is low


@dataclass(frozen=True)
class CurveRows:
    """The runs of corpora, with a row for each of their epochs.

    Attributes:
        inputs: shape [rows, inputs].
        epochs: that have ended, shape [rows].
        run: which run a row is of, shape [rows].
        targets: whether the run is low, its accuracy above guessing, its relative accuracy; shape [runs, 3].
        trained: epochs that each run was trained for, shape [runs].
        planned: epochs that it was planned for, shape [runs].
        families: of the networks, shape [runs].
        parts: number of the group of families and data sets that a run is left out with, shape [runs, 2].
    """

    inputs: Array
    epochs: NDArray[np.int64]
    run: NDArray[np.int64]
    targets: Array
    trained: NDArray[np.int64]
    planned: NDArray[np.int64]
    families: NDArray[np.str_]
    parts: NDArray[np.int64]

    @property
    def low(self) -> Mask:
        """Whether a run ends below half of the best of its sweep; shape [runs]."""
        return self.targets[:, 0] > 0


class _Run(NamedTuple):
    record: RunRecord
    curve: LearningCurve
    target: tuple[float, float, float]
    family: str
    part: tuple[int, int]


def curve_rows(sweeps: Sequence[RecordedSweep]) -> CurveRows:
    """Read the curves of recorded runs.

    Raises:
        PredictorError: there are none.
    """
    runs = [run for sweep in sweeps for run in _runs(sweep)]
    inputs, epochs, of = [], [], []
    for index, run in enumerate(runs):
        planned = run.record.config["epochs"]
        for epoch in range(first_epoch(planned), min(len(run.curve.accuracies), planned - 1) + 1):
            if can_read(run.curve, epoch):
                inputs.append(curve_inputs(run.curve, epoch, planned))
                epochs.append(epoch)
                of.append(index)
    if not inputs:
        raise PredictorError("no run has a learning curve that can be read: give corpora of whole trainings")
    return CurveRows(
        inputs=np.array(inputs),
        epochs=np.array(epochs),
        run=np.array(of),
        targets=np.array([run.target for run in runs]),
        trained=np.array([len(run.curve.accuracies) for run in runs]),
        planned=np.array([run.record.config["epochs"] for run in runs]),
        families=np.array([run.family for run in runs]),
        parts=np.array([run.part for run in runs]),
    )


def _runs(sweep: RecordedSweep) -> Iterator[_Run]:
    best = max(record.best_accuracy for record in sweep.records)
    part = _group(sweep.family, FAMILY_GROUPS), _group(sweep.dataset, DATASET_GROUPS)
    for record in sweep.records:
        curve = curve_of(record)
        guess = record.config.get("guess", 1 / curve.classes)
        if best - guess < _LEAST_ABOVE_GUESSING:
            return
        losses = dict(curve.losses)
        for epoch, loss in enumerate(record.curve["train_loss"], start=1):
            losses.setdefault(float(epoch), (loss, loss))
        above, level = record.best_accuracy - guess, 1 / curve.classes
        relative = float(np.clip(above / (best - guess), 0, 1))
        gain = float(np.clip((record.best_accuracy - level) / (1 - level), 0, 1))
        target = (float(relative < LOW_SHARE), gain, relative)
        yield _Run(record, replace(curve, losses=losses), target, sweep.family, part)


def _group(name: str, groups: Sequence[Sequence[str]]) -> int:
    return next((number for number, group in enumerate(groups) if name in group), len(groups))


def held_out_values(rows: CurveRows) -> Array:
    """How low each row's run looks, to a forest that has seen neither its families nor its data sets.

    Returns:
        Shape [rows].
    """
    values = np.empty(len(rows.run))
    parts = rows.parts[rows.run]
    for family, dataset in np.unique(rows.parts, axis=0):
        test = (parts == (family, dataset)).all(axis=1)
        train = (parts != (family, dataset)).all(axis=1)
        if test.any():
            values[test] = _fit_forest(rows, train)(rows.inputs[test])[:, 0]
    return values


def _fit_forest(rows: CurveRows, chosen: Mask) -> Forest:
    used = np.flatnonzero(chosen & _spread_epochs(rows))
    if not len(used):
        raise PredictorError("all runs are of one family of networks, or on one data set: give more corpora")
    targets = rows.targets[rows.run[used]]
    return fit_forest(rows.inputs[used], targets, trees=_TREES, seed=0, rows_per_leaf=_ROWS_PER_LEAF)


def _spread_epochs(rows: CurveRows) -> Mask:
    """Some epochs of each run, from its first to its last."""
    starts = np.flatnonzero(np.diff(rows.run, prepend=-1))
    chosen = np.zeros(len(rows.run), dtype=bool)
    for start, end in zip(starts, [*starts[1:], len(rows.run)], strict=True):
        chosen[np.linspace(start, end - 1, _EPOCHS_OF_A_RUN).round().astype(int)] = True
    return chosen


def largest_of_runs(rows: CurveRows, values: Array) -> Array:
    """Each run's largest value; -inf for a run that was never judged. Shape [runs]."""
    largest = np.full(len(rows.low), -np.inf)
    np.maximum.at(largest, rows.run, values)
    return largest


def by_family_group(rows: CurveRows, largest: Array) -> tuple[tuple[float, ...], ...]:
    """The values of the good runs that were judged, ascending, for each group of families that has any."""
    good, groups = ~rows.low & np.isfinite(largest), rows.parts[:, 0]
    found = [np.sort(largest[good & (groups == group)]) for group in np.unique(groups)]
    return tuple(tuple(map(float, values)) for values in found if len(values))


def fit_curve_model(rows: CurveRows) -> CurveModel:
    """Fit the model to all runs, and calibrate it on held-out ones.

    Raises:
        PredictorError: all runs are of one family of networks, or on one data set.
    """
    values = held_out_values(rows)
    scale = RiskScale.from_good_runs(values[~rows.low[rows.run]])
    risks = by_family_group(rows, largest_of_runs(rows, np.array([scale(value) for value in values])))
    return CurveModel(
        forest=_fit_forest(rows, np.ones(len(rows.run), dtype=bool)),
        risk=scale,
        planned_epochs=(float(rows.planned.min()), float(rows.planned.max())),
        max_risks_of_good_runs=risks,
    )


def save_curve_model(model: CurveModel, rows: CurveRows, sweeps: Sequence[RecordedSweep], path: Path) -> None:
    """Write PATH.npz, and PATH.json: what the model was fitted to.

    Args:
        model: fitted.
        rows: to which.
        sweeps: that these are of.
        path: without ending; a missing folder is created.
    """
    array_file = path.with_name(f"{path.name}.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(array_file)
    card = {
        "corpora": dict(sorted(Counter(sweep.corpus for sweep in sweeps).items())),
        "families": {str(name): int((rows.families == name).sum()) for name in np.unique(rows.families)},
        "datasets": sorted({sweep.dataset for sweep in sweeps}),
        "runs": len(rows.low),
        "low": int(rows.low.sum()),
        "low_share": LOW_SHARE,
        "planned_epochs": list(model.planned_epochs),
        "inputs": INPUTS,
        "sha256": hashlib.sha256(array_file.read_bytes()).hexdigest(),
    }
    write_atomically(path.with_name(f"{path.name}.json"), (json.dumps(card, indent=1) + "\n").encode())
