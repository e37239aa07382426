"""The metrics that the model logs, by epochs; one of them may be the validation accuracy.

The Trainer shows a metric until there is another value of it, through epochs that have logged none. So a
value counts for the epoch in which it is new, and for no other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_nndyn.callback.epochs import EpochCounter
from lightning_nndyn.callback.record import Record

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

_ROUNDING = 1e-6  # of a mean over batches


class LoggedMetrics:
    """Puts the metrics that the model logs into a run's record.

    Args:
        monitor: the metric that is the validation accuracy; None if there is none.

    Attributes:
        any_monitor: whether the monitor may be something else than an accuracy.
        may_be_percent: whether values above 1 are taken for percent, from the first one on.
    """

    def __init__(self, monitor: str | None = None) -> None:
        self.any_monitor = self.may_be_percent = False
        self._monitor = monitor
        self._rows, self._accuracies = _News(), _News()
        self._validated = self._comes_late = False
        self._refused = math.nan  # the latest value that is no accuracy

    def record_validation(self, trainer: Trainer, record: Record, epoch: int) -> None:
        """Records the accuracy of a validation that has ended. All processes must call this.

        Args:
            trainer: whose validation it is; each process may have validated a share.
            record: the run's.
            epoch: the one it belongs to, counted from 0.
        """
        self._validated = True
        self._record_accuracy(trainer, record, epoch + 1, trainer.callback_metrics)

    def record(
        self, trainer: Trainer, record: Record, epochs: int, metrics: Mapping[str, Any], late: bool = False
    ) -> None:
        """Records what is new as of the latest epoch. All processes must call this.

        Args:
            trainer: whose metrics they are.
            record: the run's.
            epochs: how many have ended, that one included.
            metrics: as the Trainer shows them.
            late: whether the epoch has been concluded before.
        """
        if trainer.is_global_zero:
            self.record_epoch(record, epochs, metrics)
        missing = self._is_missing(record, epochs)
        self._record_accuracy(trainer, record, epochs, metrics)
        self._comes_late |= late and missing and not self._is_missing(record, epochs)

    def is_awaited(self, record: Record, epochs: int) -> bool:
        """Whether the accuracy of the latest epoch is yet to come: one was logged late before."""
        return self._comes_late and self._is_missing(record, epochs)

    def _is_missing(self, record: Record, epochs: int) -> bool:
        return not any(map(math.isfinite, record.accuracies[epochs - 1 : epochs]))

    def _record_accuracy(
        self, trainer: Trainer, record: Record, epochs: int, metrics: Mapping[str, Any]
    ) -> None:
        if self._monitor is None:
            return
        shown = {name: value for name, value in metrics.items() if name == self._monitor}
        number = self._accuracies.numbers(shown).get(self._monitor)
        value = mean_over_processes(trainer, math.nan if number is None else number)
        accuracies = record.accuracies
        accuracies[epochs:] = []  # of an epoch that is trained again
        accuracies += [math.nan] * (epochs - len(accuracies))
        if math.isfinite(value):  # else it was not logged since it was recorded
            accuracies[-1] = value if self.any_monitor else self._as_fraction(record, value)

    def _as_fraction(self, record: Record, value: float) -> float:
        """An accuracy as a fraction; NaN for what is none."""
        if record.unit == "fraction" and 1 + _ROUNDING < value <= 100 and self.may_be_percent:
            record.unit = "percent"
            record.accuracies[:] = [accuracy / 100 for accuracy in record.accuracies]
        fraction = value / 100 if record.unit == "percent" else value
        if 0 <= fraction <= 1 + _ROUNDING:
            return min(fraction, 1.0)
        self._refused = value
        return math.nan

    def complaint(self, trainer: Trainer, record: Record, epochs: EpochCounter) -> str:
        """What to warn of as long as there has been no accuracy that should have come; else empty."""
        if self._monitor is None or any(map(math.isfinite, record.accuracies)):
            return ""
        misses = epochs.misses_validation(trainer)
        if not (misses or self._validated or math.isfinite(self._refused)):
            return ""
        shown = trainer.callback_metrics.get(self._monitor)
        if shown is not None and json_number(shown) is None:
            return f"monitor={self._monitor!r} has not been finite: runs are judged in their first epoch only"
        found = f"is {self._refused:g}" if math.isfinite(self._refused) else "was not logged by validation"
        names = ", ".join(sorted(name for name in trainer.callback_metrics if not _is_ours(name)))
        wanted = "that is logged" if self.any_monitor else "that is an accuracy between 0 and 1"
        return (
            f"monitor={self._monitor!r} {found}; give a metric {wanted} (logged: {names or 'none'}). "
            "Until it is there, runs are judged in their first epoch only"
        ) + (epochs.validation_hint if misses else "")

    def record_epoch(self, record: Record, epochs: int, metrics: Mapping[str, Any]) -> None:
        """Records the metrics' new values as those after so many epochs."""
        new = self._rows.numbers({name: value for name, value in metrics.items() if not _is_ours(name)})
        for name in {**record.metrics, **new}:
            row = record.metrics.setdefault(name, [])
            row[epochs:] = []  # of an epoch that was trained before
            row += [None] * (epochs - len(row))
            row[-1] = new.get(name, row[-1])


class _News:
    """Tells which metrics were logged since it was asked last. It keeps what it was shown, to compare."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Any, float | None]] = {}

    def numbers(self, metrics: Mapping[str, Any]) -> dict[str, float | None]:
        """The new ones as JSON numbers."""
        shown = {name: (value, json_number(value)) for name, value in metrics.items()}
        new = {name: pair[1] for name, pair in shown.items() if not _same(self._seen.get(name), pair)}
        self._seen |= shown
        return new


def _same(before: tuple[Any, float | None] | None, now: tuple[Any, float | None]) -> bool:
    """Whether a metric was not logged in between: then its memory is the same, and so is its number."""
    if before is None or before[1] != now[1]:
        return False
    old, new = before[0], now[0]
    # Lightning shows a value of this epoch through a new view each time.
    views = isinstance(old, Tensor) and isinstance(new, Tensor) and old.data_ptr() == new.data_ptr()
    return old is new or views


def _is_ours(name: str) -> bool:
    return name.startswith("nndyn/")


def json_number(value: Any) -> float | None:
    """A metric as a JSON number; None for what is not finite or not a number."""
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if math.isfinite(number) else None


def mean_over_processes(trainer: Trainer, value: float) -> float:
    """The mean over those processes that have a value; NaN where none has. All processes must call this."""
    if trainer.world_size == 1:
        return value
    known = math.isfinite(value)
    pair = torch.tensor([value if known else 0.0, float(known)], device=trainer.strategy.root_device)
    total, count = trainer.strategy.reduce(pair, reduce_op="mean").tolist()
    return total / count if count else math.nan
