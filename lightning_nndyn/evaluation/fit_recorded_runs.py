"""Predictors from one's own runs, and verdicts on them: from the records that the callback leaves."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import FINISHED, STOPPED, find_records, read_record
from lightning_nndyn.errors import NNDynWarning, PredictorError
from lightning_nndyn.evaluation.fit_corpora import LOW_SHARE
from lightning_nndyn.predictor import LearningCurve, Predictor, TrainingSetup
from lightning_nndyn.predictor.training_set import check_topologies
from lightning_nndyn.signature.snapshot import Snapshot


@dataclass(frozen=True)
class OwnRun:
    """A run that the callback has recorded.

    Attributes:
        file: its record.
        status: "finished", "stopped", "interrupted" or "running".
        history: its snapshots.
        curve: losses, and the metric after each epoch.
        accuracy: the metric's best value; None where it was never logged.
        training: optimizer and steps per epoch.
    """

    file: Path
    status: str
    history: list[Snapshot]
    curve: LearningCurve
    accuracy: float | None
    training: TrainingSetup


def load_runs(folder: Path | str, metric: str | None = None) -> list[OwnRun]:
    """The recorded runs under a folder, in the order of their names.

    Args:
        folder: searched with all folders in it.
        metric: the validation accuracy; None takes each run's own `monitor`.

    Raises:
        PredictorError: there are none, or a record cannot be read.
    """
    found: dict[str, OwnRun] = {}
    for file in find_records(folder):
        name, run = _own_run(file, metric)
        # A run that was resumed may have left a record in the log folder of each of its parts.
        if name not in found or len(run.history) >= len(found[name].history):
            found[name] = run
    runs = list(found.values())
    if not runs:
        raise PredictorError(
            f"no records of runs (nndyn-*.json) under {str(folder)!r}: train with GraphDynamicsCallback and "
            "a logger, or give the folder it was told to leave them in"
        )
    return runs


def _own_run(file: Path, metric: str | None) -> tuple[str, OwnRun]:
    content = read_record(file)
    try:
        record, monitor, status = Record.from_dict(content), content["monitor"], content["status"]
    except (KeyError, TypeError, ValueError) as error:
        raise PredictorError(f"{file} lacks a part of a run's record ({error!r}): delete it") from error
    values = record.metrics.get(metric or monitor or "", [])
    known = [value for value in values if value is not None]
    logged = record.curve_of([math.nan if value is None else value for value in values])
    run = OwnRun(
        file=file,
        status=status,
        history=record.history,
        # Of the monitor it is known which epochs had a validation.
        curve=record.curve() if metric in (None, monitor) else logged,
        accuracy=max(known, default=None),
        training=record.training,
    )
    return record.run, run


def fit_runs(
    folder: Path | str,
    *,
    metric: str | None = None,
    name: str | None = None,
    low_threshold: float | None = None,
    low_share: float | None = None,
    **settings: Any,
) -> Predictor:
    """Fits a predictor to the finished ones of one's own runs.

    Args:
        folder: where they were logged.
        metric: the validation accuracy; None takes each run's own `monitor`.
        name: what to call it; None tells how many runs there were, and in which folder.
        low_threshold: best accuracy below which a run is low, a fraction.
        low_share: instead of it, a share of the best of all runs; 0.5 unless either is given.
        settings: further arguments of `Predictor`.

    Raises:
        PredictorError: there are too few finished runs with that metric, it is no accuracy, or their graphs
            are of more than one topology.
    """
    runs = load_runs(folder, metric)
    usable = [run for run in runs if run.status == FINISHED and run.accuracy is not None]
    if not usable:
        wanted = f"the metric {metric!r}" if metric else "a monitor"
        raise PredictorError(f"none of {_counted(runs)} has finished with {wanted}: {_known(folder)}")
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


def _warn_of_stopped(runs: Sequence[OwnRun]) -> None:
    """How those would have ended nobody knows, and the good ones among them had the highest risks."""
    stopped = sum(run.status == STOPPED for run in runs)
    if stopped:
        warnings.warn(
            f"{stopped} of {len(runs)} runs were stopped and are left out: the good ones among them, which "
            "looked worst, are missing where the threshold is calibrated, so that it may stop more good runs "
            "than it promises. Record runs with action='observe'",
            NNDynWarning,
            stacklevel=3,
        )


def _counted(runs: Sequence[OwnRun]) -> str:
    counts = Counter(run.status for run in runs)
    return f"{len(runs)} runs ({', '.join(f'{count} {status}' for status, count in sorted(counts.items()))})"


def _check_fractions(runs: Sequence[OwnRun], metric: str | None) -> None:
    for run in runs:
        if run.accuracy is not None and not 0 <= run.accuracy <= 1:
            raise PredictorError(
                f"{metric or 'the monitor'} is {run.accuracy:g} in {run.file}: it must be an accuracy "
                "between 0 and 1. Name another metric, and log accuracies as fractions, not as percentages"
            )


def _known(folder: Path | str) -> str:
    names = sorted({name for file in find_records(folder) for name in read_record(file)["metrics"]})
    return f"name one of the metrics that were logged: {', '.join(names) or 'there are none'}"
