"""The runs that the same log folder has records of: a shell loop over learning rates is a sweep, too.

A run without a tuner is compared with them, as far as they are of its kind: the same layers, classes, metric
and planned epochs, and as many steps in an epoch or, for another batch size, twice or half as many. Widths,
optimizers and all other settings may differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import PATTERN, RecordFile, load_record
from lightning_nndyn.callback.sweep_readings import sweep_run
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor.policy import Decision
from lightning_nndyn.sweep import ChanceRule, SweepRun, reaches_rung

_MOST = 100  # records that are read: the latest


@dataclass
class EarlierRuns:
    """The runs recorded in a folder, and what they say of another one.

    Attributes:
        folder: the log folder of the run that goes on; None where nothing is recorded.
        monitor: name of its metric.
        sign: 1 where large values of the metric are good, -1 where small ones are.
        rule: decides.
    """

    folder: Path | None
    monitor: str
    sign: float
    rule: ChanceRule = field(default_factory=ChanceRule)
    _read: dict[Path, tuple[int, SweepRun | None]] = field(default_factory=dict)

    def decide(self, record: Record) -> tuple[Decision, int]:
        """Decide on a run by its latest reading.

        Returns:
            The decision, and the number of runs that it was compared with.
        """
        run = sweep_run(_at_rungs(record), self.sign)
        others = self.runs(record)
        return self.rule.decide(run, others), len(others)

    def runs(self, record: Record) -> list[SweepRun]:
        """The recorded runs of the same kind."""
        files = [] if self.folder is None else _latest(self.folder)
        found = [self._run(file, modified, record) for file, modified in files]
        return [run for run in found if run is not None]

    def _run(self, file: Path, modified: int, record: Record) -> SweepRun | None:
        """A recorded run; None if it is this one, of another kind, or cannot be read."""
        known = self._read.get(file)
        if known is not None and known[0] == modified:
            return known[1]
        try:
            other, stored = load_record(file)
        except PredictorError:  # `nndyn report` names it
            run = None
        else:
            run = self._comparable(other, stored, record)
        self._read[file] = modified, run
        return run

    def _comparable(self, other: Record, stored: RecordFile, record: Record) -> SweepRun | None:
        same = stored.monitor == self.monitor and other.from_start and _is_alike(other, record)
        if not same or other.run == record.run:
            return None
        return sweep_run(_at_rungs(other), self.sign, stored.status)


def _at_rungs(record: Record) -> Record:
    """The record with the snapshots at which runs are compared, and the first one."""
    times = [snapshot.epoch for snapshot in record.history]
    rungs = [one for i, one in enumerate(record.history) if i == 0 or reaches_rung(times[: i + 1])]
    return replace(record, history=rungs)


def _latest(folder: Path) -> list[tuple[Path, int]]:
    """Records in a log folder and in those beside it, with the times of their last change."""
    found = []
    for file in {*folder.glob(PATTERN), *folder.parent.glob(f"*/{PATTERN}")}:
        try:
            found.append((file, file.stat().st_mtime_ns))
        except OSError:  # replaced or deleted just now
            continue
    return sorted(found, key=lambda pair: (pair[1], pair[0]))[-_MOST:]


def _is_alike(other: Record, record: Record) -> bool:
    return (
        other.classes == record.classes
        and other.unit == record.unit
        and list(other.history[0].layers) == list(record.history[0].layers)
        and other.training.planned_epochs == record.training.planned_epochs
        and _steps_are_alike(other.training.steps_per_epoch, record.training.steps_per_epoch)
    )


def _steps_are_alike(steps: float | None, others: float | None) -> bool:
    """Whether two numbers of steps are those of the same data, if batches or processes are twice as many.

    Halves are rounded: 23 steps of one process are 12 of two.
    """
    if not steps or not others:
        return steps == others
    fewer, more = sorted((steps, others))
    doublings = round(math.log2(more / fewer))
    return fewer == more if doublings == 0 else abs(more / 2**doublings - fewer) < 1
