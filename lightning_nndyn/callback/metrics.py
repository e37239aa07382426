"""The metrics that the model logs, by epochs; one of them may be the validation accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from lightning_nndyn.callback.epochs import EpochCounter
from lightning_nndyn.callback.record import Record

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class LoggedMetrics:
    """Puts the metrics that the model logs into a run's record.

    Args:
        monitor: the metric that is the validation accuracy; None if there is none.

    Attributes:
        any_monitor: whether the monitor may be something else than an accuracy.
    """

    def __init__(self, monitor: str | None = None) -> None:
        self.any_monitor = False
        self._monitor = monitor
        self._shown: dict[str, tuple[Any, float | None]] = {}  # value and number as they were last

    def record_validation(self, trainer: Trainer, record: Record, epoch: int) -> str:
        """Records the accuracy of a validation that has ended. All processes must call this.

        Args:
            trainer: whose validation it is; each process may have validated a share.
            record: the run's.
            epoch: the one it belongs to, counted from 0.

        Returns:
            A warning as long as there has been no accuracy; else empty.
        """
        if self._monitor is None:
            return ""
        return self._record_accuracy(trainer, record, trainer.callback_metrics.get(self._monitor), epoch)

    def record_gap(self, trainer: Trainer, record: Record, epochs: EpochCounter) -> str:
        """Records that the epoch which ends has had no validation, if so. All processes must call this.

        Returns:
            A warning if there should have been one, and never was; else empty.
        """
        if self._monitor is None or len(record.accuracies) >= epochs.num_ended:
            return ""
        warning = self._record_accuracy(trainer, record, None, epochs.num_ended - 1)
        return warning + epochs.validation_hint if warning and epochs.misses_validation(trainer) else ""

    def _record_accuracy(self, trainer: Trainer, record: Record, logged: Any, epoch: int) -> str:
        value = mean_over_processes(trainer, math.nan if logged is None else float(logged))
        accuracies = record.accuracies
        accuracies[epoch:] = []  # of an epoch that is validated, or trained, again
        accuracies += [math.nan] * (epoch - len(accuracies))
        accuracies.append(value if 0 <= value <= 1 or self.any_monitor else math.nan)
        if any(math.isfinite(accuracy) for accuracy in accuracies):
            return ""
        found = f"is {value:g}" if math.isfinite(value) else "was not logged by validation"
        names = ", ".join(sorted(name for name in trainer.callback_metrics if not _is_ours(name)))
        return (
            f"monitor={self._monitor!r} {found}; give a metric that is an accuracy between 0 and 1 (logged: "
            f"{names or 'none'}). Until it is there, runs are judged in their first epoch only"
        )

    def record_epoch(self, record: Record, epochs: int, metrics: Mapping[str, Any]) -> None:
        """Records the metrics' new values as those after so many epochs.

        The Trainer shows a metric's value until there is another: an epoch without validation has none.
        """
        theirs = {name: value for name, value in metrics.items() if not _is_ours(name)}
        new = {name: json_number(value) for name, value in theirs.items() if self._is_new(name, value)}
        for name in {**record.metrics, **new}:
            row = record.metrics.setdefault(name, [])
            row[epochs:] = []  # of an epoch that was trained before
            row += [None] * (epochs - len(row))
            row[-1] = new.get(name, row[-1])

    def _is_new(self, name: str, value: Any) -> bool:
        before, number = self._shown.get(name), json_number(value)
        self._shown[name] = value, number
        # The same tensor with another number has been written to in place.
        return before is None or before[0] is not value or before[1] != number


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
    known = math.isfinite(value)
    pair = torch.tensor([value if known else 0.0, float(known)], device=trainer.strategy.root_device)
    total, count = trainer.strategy.reduce(pair, reduce_op="mean").tolist()
    return total / count if count else math.nan
