"""Fit a predictor to one's own runs, from the records that the callback leaves."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import FINISHED, STOPPED, RecordFile, find_records, load_records
from lightning_nndyn.errors import NNDynWarning, PredictorError
from lightning_nndyn.evaluation.fit_corpora import LOW_SHARE
from lightning_nndyn.predictor import LearningCurve, Predictor, TrainingSetup
from lightning_nndyn.predictor.training_set import check_topologies
from lightning_nndyn.signature.snapshot import Snapshot


@dataclass(frozen=True)
class LoadedRun:
    """A run that the callback has recorded.

    Attributes:
        file: the record.
        status: "finished", "stopped", "interrupted" or "running".
        history: snapshots.
        curve: losses, and the metric after each epoch.
        accuracy: the metric's best value; None where it was never logged.
        training: optimizer and steps per epoch.
        logged: names of the metrics that were logged.
        falls: whether the metric is to fall, which no accuracy is.
    """

    file: Path
    status: str
    history: list[Snapshot]
    curve: LearningCurve
    accuracy: float | None
    training: TrainingSetup
    logged: frozenset[str] = frozenset()
    falls: bool = False


def load_runs(folder: Path | str, metric: str | None = None) -> list[LoadedRun]:
    """Read the recorded runs under a folder, in the order of their file names.

    A record that cannot be read is left out, with a warning that names it.

    Args:
        folder: searched with all folders in it.
        metric: the validation accuracy; None takes each run's `monitor`.

    Raises:
        PredictorError: there are none, or none can be read.
    """
    runs: dict[str, LoadedRun] = {}
    unreadable: dict[Path, str] = {}
    for file, record, stored in load_records(find_records(folder), unreadable):
        run = _loaded(file, record, stored, metric)
        # A run that was resumed may have left a record in the log folder of each of its parts.
        if record.run not in runs or len(run.history) >= len(runs[record.run].history):
            runs[record.run] = run
    if unreadable:
        complaint = f"{len(unreadable)} records are left out: {'; '.join(unreadable.values())}"
        if not runs:
            raise PredictorError(complaint)
        warnings.warn(complaint, NNDynWarning, stacklevel=2)
    if not runs:
        raise PredictorError(
            f"no records of runs (nndyn-*.json) under {str(folder)!r}: train with GraphDynamicsCallback and "
            "a logger, or give the folder it was told to leave them in"
        )
    return list(runs.values())


def _loaded(file: Path, record: Record, stored: RecordFile, metric: str | None) -> LoadedRun:
    scale = 100 if record.unit == "percent" and metric in (None, stored.monitor) else 1
    values = [
        None if value is None else value / scale
        for value in record.metrics.get(metric or stored.monitor or "", [])
    ]
    known = [value for value in values if value is not None]
    logged = record.curve_of([math.nan if value is None else value for value in values])
    return LoadedRun(
        file=file,
        status=stored.status,
        history=record.history,
        # For the monitor the record also says which epochs had a validation.
        curve=record.curve_of(record.accuracies) if metric in (None, stored.monitor) else logged,
        accuracy=max(known, default=None),
        training=record.training,
        logged=frozenset(record.metrics),
        falls=metric in (None, stored.monitor) and stored.mode == "min",
    )


def fit_runs(
    folder: Path | str,
    *,
    metric: str | None = None,
    name: str | None = None,
    low_threshold: float | None = None,
    low_share: float | None = None,
    **settings: Any,
) -> Predictor:
    """Fit a predictor to the finished runs under a folder.

    Args:
        folder: where they were logged.
        metric: the validation accuracy; None takes each run's `monitor`.
        name: of the predictor; None names the number of runs and the folder.
        low_threshold: best accuracy below which a run is low, a fraction.
        low_share: instead of it, a share of the best accuracy of all runs; 0.5 unless either is given.
        settings: further arguments of `Predictor`.

    Raises:
        PredictorError: there are too few finished runs with that metric, it is not an accuracy, or the graphs
            have different topologies.
    """
    runs = load_runs(folder, metric)
    usable = [run for run in runs if run.status == FINISHED and run.accuracy is not None]
    if not usable:
        wanted = f"the metric {metric!r}" if metric else "a monitor"
        raise PredictorError(f"none of {_counted(runs)} has finished with {wanted}: {_known(runs)}")
    _check_fractions(usable, metric)
    _warn_of_stopped(runs)
    check_topologies({str(run.file): run.history[0].topology for run in usable if run.history})
    if low_threshold is None and low_share is None:
        low_share = LOW_SHARE
    return Predictor(low_threshold=low_threshold, low_share=low_share, **settings).fit(
        [run.history for run in usable],
        [float(run.accuracy or 0) for run in usable],
        corpus=name or f"{len(usable)} runs under {Path(folder).resolve().name}",
        curves=[run.curve for run in usable],
        training=[run.training for run in usable],
    )


def _warn_of_stopped(runs: Sequence[LoadedRun]) -> None:
    """The final accuracy of a stopped run is unknown, and the good ones among them had the highest risks."""
    stopped = sum(run.status == STOPPED for run in runs)
    if stopped:
        warnings.warn(
            f"{stopped} of {len(runs)} runs were stopped and are left out: the good ones among them, which "
            "looked worst, are missing where the threshold is calibrated, so that it may stop more good runs "
            "than it promises. Record runs with action='observe'",
            NNDynWarning,
            stacklevel=3,
        )


def _counted(runs: Sequence[LoadedRun]) -> str:
    counts = Counter(run.status for run in runs)
    return f"{len(runs)} runs ({', '.join(f'{count} {status}' for status, count in sorted(counts.items()))})"


def _check_fractions(runs: Sequence[LoadedRun], metric: str | None) -> None:
    for run in runs:
        if run.falls:
            raise PredictorError(
                f"{metric or 'the monitor'} is to fall in {run.file}: predictors know accuracies. Name "
                "another with metric= or --metric"
            )
        if run.accuracy is not None and not 0 <= run.accuracy <= 1:
            raise PredictorError(
                f"{metric or 'the monitor'} is {run.accuracy:g} in {run.file}: it must be an accuracy "
                "between 0 and 1. Name another metric, and log accuracies as fractions, not as percentages"
            )


def _known(runs: Sequence[LoadedRun]) -> str:
    names = sorted(set[str]().union(*(run.logged for run in runs)))
    return f"name one of the metrics that were logged: {', '.join(names) or 'there are none'}"
