"""Keeps a run's record on disk while it is trained, and tells other runs how it has ended."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nndyn.callback.audit import Ended, append_ended
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.run_file import HistoryText, plain_number, write_run
from lightning_nndyn.errors import NNDynWarning

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

FINISHED, STOPPED, INTERRUPTED, RUNNING = "finished", "stopped", "interrupted", "running"


@dataclass
class Keeper:
    """Writes `nndyn-RUN.json` after each epoch and at the end; where that fails, it warns once and lets be.

    Attributes:
        folder: where the record goes; None for nowhere, as on all processes but the first.
        facts: what the run is: JSON-able.
        ledger: folder of the audit's ledger; None without an audit.
        share: probability with which this run was let finish, should it be condemned.
        monitor: the metric that is the validation accuracy; "" if there is none.
        layer_sizes: nodes of each layer of the network's graph; empty before they are known.
    """

    folder: Path | None
    facts: Mapping[str, Any]
    ledger: Path | None = None
    share: float = 1.0
    monitor: str = ""
    layer_sizes: Sequence[int] = ()
    _history: HistoryText = field(default_factory=HistoryText)
    _shown: dict[str, tuple[Any, float | None]] = field(default_factory=dict)  # metrics as they were last

    def note(self, record: Record, epochs: int, metrics: Mapping[str, Any]) -> None:
        """Takes the metrics' latest values for those after so many epochs.

        The Trainer shows a metric's value until there is another: an epoch without validation has none.
        """
        theirs = {name: value for name, value in metrics.items() if not name.startswith("nndyn/")}
        found = {name: plain_number(value) for name, value in theirs.items() if self._is_new(name, value)}
        for name in {**record.metrics, **found}:
            row = record.metrics.setdefault(name, [])
            row[epochs:] = []  # of an epoch that was trained before
            row += [None] * (epochs - len(row))
            row[-1] = found.get(name, row[-1])

    def _is_new(self, name: str, value: Any) -> bool:
        before, number = self._shown.get(name), plain_number(value)
        self._shown[name] = value, number
        # The same tensor with another number has been written to in place.
        return before is None or before[0] is not value or before[1] != number

    def end(self, record: Record, status: str, condemned: bool = False) -> None:
        """Writes how the run has ended, and enters it in the ledger if it was judged and nobody stopped it.

        Args:
            record: the run's record.
            status: how it has ended.
            condemned: whether it has gone on although it was to be stopped.
        """
        self.write(record, status)
        values = [value for value in record.metrics.get(self.monitor, ()) if value is not None]
        if self.ledger is None or status != FINISHED or not values or not record.verdicts:
            return
        ended = Ended(max(values), record.classes, condemned, self.share, record.run)
        if not self._works(lambda folder: append_ended(folder, ended), self.ledger):
            self.ledger = None

    def write(self, record: Record, status: str) -> None:
        """Writes the record as it is."""
        if self.folder is None or not record.history:
            return
        content = {
            **record.plain_facts(),
            "status": status,
            "layer_sizes": list(self.layer_sizes),
            **self.facts,
        }
        history, name = self._history.of(record.history), f"nndyn-{record.run}.json"
        if not self._works(lambda folder: write_run(folder / name, content, history), self.folder):
            self.folder = None

    def _works(self, work: Callable[[Path], None], folder: Path) -> bool:
        try:
            work(folder)
        except Exception as error:  # whatever it is: training must not suffer from it
            warnings.warn(
                f"GraphDynamicsCallback cannot write to {str(folder)!r} ({type(error).__name__}: {error}): "
                "this run's record is not kept; training, predictions and decisions go on",
                NNDynWarning,
                stacklevel=2,
            )
            return False
        return True


def record_folder(trainer: Trainer, record: bool | str | Path, log_folder: str | None) -> Path | None:
    """Where a run's record goes; None for nowhere, as with a log folder that is no folder of this machine.

    Args:
        trainer: whose run it is.
        record: what the user has said: whether, or where.
        log_folder: the Trainer's.
    """
    if isinstance(record, (str, Path)):
        return Path(record)
    kept = record and trainer.loggers and not trainer.barebones
    return Path(log_folder) if kept and log_folder and "://" not in log_folder else None
