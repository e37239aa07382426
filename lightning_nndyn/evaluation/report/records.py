"""Finds and reads records of runs; one that cannot be read is noted, and the others are read all the same."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lightning_nndyn._files import real_path
from lightning_nndyn.callback.audit import AUDIT_FILE
from lightning_nndyn.callback.record_file import find_records, load_records
from lightning_nndyn.errors import ReportError
from lightning_nndyn.evaluation.report.recorded_run import (
    RecordedRun,
    Values,
    differing_in_words,
    recorded_run,
)

_LEVELS = 3  # lightning_logs/NAME/version_0 lies so deep in a Trainer's root


class _Read(NamedTuple):
    """A run, without its curve, and what that is taken from. The record itself is large, and let go."""

    run: RecordedRun
    snapshots: int
    metrics: Mapping[str, Values]
    accuracies: Sequence[float]


@dataclass
class RecordedRuns:
    """What was found.

    Attributes:
        runs: in the order of their files.
        metric: the validation accuracy; "" if no run has named one.
        unreadable: for each record that cannot be read, why.
        missing: why there are no records in those of the given paths that have none.
        all_used: whether a record could be read in each of the given paths.
        doubles: records of runs that have a longer one.
        folders: where the audit's ledger may lie.
    """

    runs: list[RecordedRun]
    metric: str
    unreadable: dict[Path, str]
    missing: list[str]
    all_used: bool
    doubles: int
    folders: list[Path]


def load(paths: Sequence[Path], metric: str | None = None) -> RecordedRuns:
    """Reads all records.

    Args:
        paths: folders, searched with all folders in them, and records.
        metric: the validation accuracy; None takes what most runs have as their `monitor`.

    Raises:
        ReportError: there is no record that can be read.
    """
    files = {path: _files(path) for path in paths}
    missing = [_nothing(path) for path in paths if not files[path]]
    unreadable: dict[Path, str] = {}
    found: dict[str, _Read] = {}
    doubles = 0
    distinct = dict.fromkeys(file for some in files.values() for file in some)
    for file, record, stored in load_records(distinct, unreadable):
        run = recorded_run(file, record, stored)
        one = _Read(run, len(record.history), record.metrics, record.accuracies)
        other = found.get(one.run.name)
        doubles += other is not None
        if other is None or one.snapshots >= other.snapshots:
            found[one.run.name] = one
    if not found:
        none = f"none of the {len(distinct)} records can be read" if distinct else "there are no records"
        raise ReportError("; ".join([none, *list(unreadable.values())[:1], *missing]))
    chosen = metric or _commonest([one.run.monitor for one in found.values()])
    runs = [_with_curve(one, chosen) for one in found.values()]
    _label(runs, paths)
    all_used = all(set(some) - set(unreadable) for some in files.values())
    return RecordedRuns(runs, chosen, unreadable, missing, all_used, doubles, _folders(paths))


def _files(path: Path) -> list[Path]:
    files = find_records(path) if path.is_dir() else [path] if path.exists() else []
    return [real_path(file) for file in files]


def _nothing(path: Path) -> str:
    if not path.exists():
        return f"{str(path)!r} does not exist: give folders with records of runs, or records"
    return (
        f"no records of runs (nndyn-*.json) under {str(path)!r}: train with GraphDynamicsCallback and a "
        "logger, or give the folder it was told to leave them in"
    )


def _commonest(monitors: Sequence[str | None]) -> str:
    counts = Counter(monitor for monitor in monitors if monitor)
    return max(counts, key=lambda name: (counts[name], name), default="")


def _with_curve(one: _Read, metric: str) -> RecordedRun:
    run = one.run
    run.curve = run.values = _values(one, metric)
    known = [value for value in run.curve if value is not None]
    if run.monitor == metric and run.mode == "min":
        run.no_accuracy, run.curve = f"{metric} is to fall, so it is no accuracy", []
        return run
    wrong = next((value for value in known if not 0 <= value <= 1), None)
    if wrong is not None:
        run.no_accuracy = f"{metric} is {wrong:g}, which is no accuracy between 0 and 1"
        run.curve = []
    elif not known:
        run.no_accuracy = f"{metric} was not logged" if metric else "no metric was named as its accuracy"
    return run


def _values(one: _Read, metric: str) -> Values:
    if one.run.monitor != metric or not one.accuracies:
        return one.metrics.get(metric, [])
    # Of the monitor it is known which epochs had a validation; old records' metrics repeat the last one.
    return [None if math.isnan(value) else value for value in one.accuracies]


def _label(runs: Sequence[RecordedRun], paths: Sequence[Path]) -> None:
    """Calls runs by their folders where these tell them apart, else by their hyperparameters or names."""
    roots = [real_path(path) if path.is_dir() else real_path(path).parent for path in paths]
    common = Path(os.path.commonpath(roots)) if len({root.anchor for root in roots}) == 1 else Path()
    names = {
        run.name: str(run.file.parent.relative_to(common))
        if run.file.is_relative_to(common)
        else str(run.file.parent)
        for run in runs
    }
    shared = Counter(names.values())
    params = _told_by_hparams(runs)
    for run in runs:
        folder = names[run.name]
        alone = shared[folder] == 1 and folder != "."
        own = params.get(run.name) or run.name
        run.differs = params.get(run.name, "") if alone else ""
        run.label = folder if alone else own if folder == "." else f"{folder}/{own}"


def _told_by_hparams(runs: Sequence[RecordedRun]) -> dict[str, str]:
    """Runs by those of their hyperparameters that differ between runs, as far as these tell them apart."""
    lines = differing_in_words([run.hparams for run in runs])
    texts = {run.name: line for run, line in zip(runs, lines, strict=True)}
    counts = Counter(texts.values())
    return {name: text if counts[text] == 1 else f"{text} ({name})" for name, text in texts.items() if text}


def _folders(paths: Sequence[Path]) -> list[Path]:
    """Where ledgers lie: below, or up to where a Trainer's root may be whose log folder was given."""
    folders = [real_path(path) if path.is_dir() else real_path(path).parent for path in paths]
    ledgers = [file for folder in folders for file in sorted(folder.rglob(AUDIT_FILE))]
    above = [up for folder in folders for up in folder.parents[:_LEVELS] if (up / AUDIT_FILE).is_file()]
    return list(dict.fromkeys([*(ledger.parent for ledger in ledgers), *above]))
