"""Rank one's own runs among each other, from the records that the callback leaves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from lightning_nndyn._files import real_path
from lightning_nndyn.callback.monitored_metric import Mode, MonitoredMetric
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import RecordFile, find_records, load_records
from lightning_nndyn.callback.sweep_readings import best_value, sweep_run
from lightning_nndyn.errors import PredictorError, SweepError
from lightning_nndyn.sweep import SweepRun, rank

_FEWEST = 3  # runs to compare


class _StoredRun(NamedTuple):
    file: Path
    record: Record
    stored: RecordFile


@dataclass(frozen=True)
class RankedRun:
    """A recorded run, and where it stands among the others.

    Attributes:
        file: the record.
        run: with all that was read of it.
        status: "finished", "stopped", "interrupted" or "running".
        best: the metric's best value so far, in the unit of the record; None where none was logged.
        score: larger is better.
    """

    file: Path
    run: SweepRun
    status: str
    best: float | None
    score: float = 0.0

    @property
    def time(self) -> float:
        """Of the latest reading, in epochs."""
        return self.run.readings[-1].time


@dataclass(frozen=True)
class RunRanking:
    """Recorded runs, best first.

    Attributes:
        runs: ranked among each other.
        metric: that tells how good they are, and which of its values are better; None where none is known.
        left_out: for each record that is not ranked, why.
    """

    runs: Sequence[RankedRun]
    metric: MonitoredMetric | None
    left_out: dict[Path, str] = field(default_factory=dict)


def rank_runs(paths: Iterable[Path], metric: str | None = None, mode: Mode | None = None) -> RunRanking:
    """Rank recorded runs of one sweep by how they are expected to end, see `lightning_nndyn.sweep.rank`.

    Args:
        paths: folders, searched with all folders in them, and records.
        metric: a logged metric; None for what most of the runs have as their `monitor`.
        mode: whether it is to grow ("max") or to fall ("min"); None for what the records or its name say.

    Raises:
        SweepError: a path does not exist, fewer than three runs can be compared, or nobody knows whether the
            metric is to grow or to fall.
    """
    left_out: dict[Path, str] = {}
    read = _longest(load_records(_files(paths), left_out))
    chosen = _metric(read, metric, mode)
    found = []
    for one in read:
        try:
            found.append(_ranked(one, chosen))
        except PredictorError as error:
            left_out[one.file] = f"{one.file}: {error}"
    if len(found) < _FEWEST:
        raise SweepError(_too_few(len(found), left_out))
    falls = chosen is not None and chosen.mode == "min"
    scores = rank([one.run for one in found], direction="minimize" if falls else "maximize")
    ranked = [replace(one, score=score) for one, score in zip(found, scores, strict=True)]
    return RunRanking(sorted(ranked, key=lambda one: -one.score), chosen, left_out)


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise SweepError(f"{str(path)!r} does not exist: give folders with records of runs, or records")
        files += [real_path(file) for file in (find_records(path) if path.is_dir() else [path])]
    return list(dict.fromkeys(files))


def _longest(read: Iterable[tuple[Path, Record, RecordFile]]) -> list[_StoredRun]:
    """A record of each run: one that was resumed may have left one in the log folder of each of its parts."""
    found: dict[str, _StoredRun] = {}
    for one in (_StoredRun(*parts) for parts in read):
        other = found.get(one.record.run)
        if other is None or len(one.record.history) >= len(other.record.history):
            found[one.record.run] = one
    return list(found.values())


def _metric(read: Sequence[_StoredRun], name: str | None, mode: Mode | None) -> MonitoredMetric | None:
    counts = Counter(one.stored.monitor for one in read if one.stored.monitor)
    name = name or max(counts, key=lambda one: (counts[one], one), default=None)
    if name is None:
        return None
    said = [one.stored.mode for one in read if one.stored.monitor == name and one.stored.mode]
    metric = MonitoredMetric.of(name, mode or next(iter(said), None))
    if metric.mode is None:
        raise SweepError(f"nobody has said whether {name} is to grow or to fall: give --mode max or min")
    return metric


def _ranked(one: _StoredRun, metric: MonitoredMetric | None) -> RankedRun:
    """A run with its readings.

    Raises:
        PredictorError: it cannot be compared with the others.
    """
    record, stored = one.record, one.stored
    sign = 1.0 if metric is None else metric.sign
    values = [] if metric is None else _values(one, metric.name)
    if not record.from_start or record.time == 0:
        raise PredictorError("its weights were not read from its start on")
    run = sweep_run(replace(record, accuracies=values), sign, stored.status, stored.hparams)
    return RankedRun(one.file, run, stored.status, best_value(values, sign))


def _values(one: _StoredRun, metric: str) -> list[float]:
    """The metric after each epoch; NaN where there was none.

    Raises:
        PredictorError: the run has another metric.
    """
    if one.stored.monitor == metric:
        return one.record.accuracies
    if metric not in one.record.metrics and one.stored.monitor is not None:
        raise PredictorError(f"{one.stored.monitor} was monitored, and {metric} was not logged")
    return [math.nan if value is None else value for value in one.record.metrics.get(metric, ())]


def _too_few(count: int, left_out: dict[Path, str]) -> str:
    if not count and not left_out:
        return (
            "there are no records of runs (nndyn-*.json): train with GraphDynamicsCallback and a logger, or "
            "give the folder it was told to leave them in"
        )
    others = (
        f" ({len(left_out)} are left out, the first as {next(iter(left_out.values()))})" if left_out else ""
    )
    return f"{count} runs can be compared{others}: that takes {_FEWEST} at least"
