"""What is logged: the latest verdict, decision and statistics, as metrics ``nndyn/...``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from lightning_nndyn.callback.monitors import note_values
from lightning_nndyn.callback.record import Record
from lightning_nndyn.signature.snapshot import STATISTICS

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class ValueLogger:
    """Logs what is new in a run's record to other callbacks, which may monitor it, and to the loggers.

    Args:
        statistics: whether to log a snapshot's statistics, too.
    """

    def __init__(self, statistics: bool) -> None:
        self._statistics = statistics
        self._num_snapshots = self._num_verdicts = 0  # that were logged

    def resume(self, trainer: Trainer, record: Record) -> None:
        """Takes what a record holds as logged before, and shows the latest verdict to other callbacks."""
        if record.verdicts:
            _show(trainer, _verdict_values(record))
        self._skip(record)

    def _skip(self, record: Record) -> None:
        self._num_snapshots, self._num_verdicts = len(record.history), len(record.verdicts)

    def log(self, trainer: Trainer, record: Record, further: Mapping[str, float], in_batch: bool) -> None:
        """Logs what has come since the last call.

        Args:
            trainer: whose metrics and loggers these are.
            record: the run's.
            further: other values, by name.
            in_batch: whether the Trainer is still busy with the batch that they belong to.
        """
        values = {**self._new_values(record), **further}
        self._skip(record)
        if not values or trainer.barebones:
            return
        _show(trainer, values)
        note_values(trainer, values)
        step = logging_step(trainer, in_batch)
        for logger in trainer.loggers:
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=step)
            logger.save()

    def _new_values(self, record: Record) -> dict[str, float]:
        values = _verdict_values(record) if len(record.verdicts) > self._num_verdicts else {}
        if self._statistics and len(record.history) > self._num_snapshots:
            found = zip(STATISTICS, record.history[-1].statistics, strict=True)
            values |= {f"nndyn/{name}": value for name, value in found}
        return values


def _show(trainer: Trainer, values: Mapping[str, float]) -> None:
    # `self.log` may not be called after validation, and what it was given before would hide what is put here.
    # To loggers it would skip snapshots between two multiples of `log_every_n_steps`, and repeat old ones.
    device = trainer.strategy.root_device
    trainer.callback_metrics.update(
        {name: torch.tensor(value, device=device) for name, value in values.items()}
    )


def _verdict_values(record: Record) -> dict[str, float]:
    last = record.verdicts[-1]
    values = {
        "nndyn/predicted_accuracy": last.predicted_accuracy,
        "nndyn/p_low": last.p_low,
        "nndyn/stop": float(record.decision.stop),
        "nndyn/in_domain": float(last.in_domain),
        "nndyn/risk": last.risk,
    }
    if last.relative_accuracy is not None:
        values["nndyn/relative_accuracy"] = last.relative_accuracy
    return values


def logging_step(trainer: Trainer, in_batch: bool) -> int:
    """The x axis of all that Lightning logs. Lightning counts a batch once its hooks have run."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped - (not in_batch)
