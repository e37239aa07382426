"""The callback of a race: it ends a run at its rung, and tells what was read of it until then."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_nndyn.callback import GraphDynamicsCallback
from lightning_nndyn.callback.decision import RunDecider
from lightning_nndyn.callback.monitored_metric import MonitoredMetric
from lightning_nndyn.callback.pause import Pause
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.session import RunSession
from lightning_nndyn.callback.settings import Settings
from lightning_nndyn.callback.sweep_readings import sweep_readings
from lightning_nndyn.callback.trainer_state import is_complete
from lightning_nndyn.predictor import Verdict
from lightning_nndyn.predictor.policy import Decision, epochs_in_words
from lightning_nndyn.sweep import SweepReading

_FOLDER = "record_folder"


class RungCallback(GraphDynamicsCallback):
    """Ends a run once its weights were read at a rung, whatever is predicted; or when it diverges.

    Args:
        end: time of the rung in epochs; None for the run's own end.
        begin: checkpoint that the run goes on from; None for a run that begins.
        save_to: file that the run is saved to at its rung; None to save nothing.
        arguments: of `GraphDynamicsCallback`.
    """

    def __init__(
        self,
        end: float | None,
        begin: Path | None = None,
        save_to: Path | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._end_time = end
        self._pause = Pause(None if begin is None else str(begin), save_to)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves a run that is paused within an epoch."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._save_within_epoch(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Saves a run that is paused by a validation within an epoch."""
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking:
            self._save_within_epoch(trainer)

    def _save_within_epoch(self, trainer: Any) -> None:
        if self._is_paused and not trainer.is_last_batch:
            self._pause.save(trainer, within_epoch=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Saves a run that is paused at an epoch's end, once all hooks have been called."""
        super().on_train_end(trainer, pl_module)
        if self._is_paused and trainer.is_last_batch and not is_complete(trainer):
            self._pause.save(trainer, within_epoch=False)

    @property
    def _is_paused(self) -> bool:
        return self._pause.active and self.decision.stop and not self.diverged

    def state_dict(self) -> dict[str, Any]:
        """The record of the run, and the folder that it is kept in."""
        folder = self.session.writer.folder
        return {**super().state_dict(), _FOLDER: None if folder is None else str(folder)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes up the record of a paused run."""
        super().load_state_dict(state_dict)
        folder = state_dict.get(_FOLDER)
        if isinstance(self.session, _RungSession) and folder:
            self.session.folder = Path(folder)

    @property
    def time(self) -> float:
        """Of the latest reading, in epochs."""
        return self.session.record.time

    @property
    def went_on(self) -> bool:
        """Whether the run was not ended at its rung."""
        decider = self.session.decisions
        return isinstance(decider, _RungDecider) and self.time > decider.reached

    @property
    def _limit(self) -> float:
        """Time of the reading that counts: the rung's, or the next where weights cannot be read then."""
        if self._end_time is None:
            return math.inf
        return next((one.epoch for one in self.history if one.epoch >= self._end_time), math.inf)

    @property
    def diverged(self) -> bool:
        """Whether weights are no longer finite."""
        return bool(self.history) and not self.history[-1].finite

    @property
    def verdict(self) -> Verdict | None:
        """The predictor's latest verdict up to the rung."""
        return next((verdict for verdict in self.verdicts[::-1] if verdict.epoch <= self._limit), None)

    @property
    def _sign(self) -> float:
        return 1.0 if self.monitor is None else MonitoredMetric.of(self.monitor, self.mode).sign

    @property
    def falls(self) -> bool:
        """Whether small values of the monitored metric are better."""
        return self._sign < 0

    @property
    def readings(self) -> tuple[SweepReading, ...]:
        """What can be compared with other candidates at the rung."""
        record = self.session.record
        found = sweep_readings(record, self._sign) if record.from_start else []
        return tuple(reading for reading in found if reading.time <= self._limit)

    @property
    def best_accuracy(self) -> float | None:
        """The best validation accuracy up to the rung; None before the first, and of a metric that falls."""
        if self.falls:
            return None
        epochs = None if math.isinf(self._limit) else int(self._limit)
        return max(filter(math.isfinite, self.session.record.accuracies[:epochs]), default=None)

    def _new_session(self) -> RunSession:
        return _RungSession(self._settings(), self._end_time)


class _RungSession(RunSession):
    """Decides by the rung in place of the predictor, on each process alike."""

    def __init__(self, settings: Settings, end: float | None) -> None:
        super().__init__(settings)
        self.decisions = _RungDecider(end, settings, None, self.messages, self.guard)
        self.folder: Path | None = None  # of the record, where the run goes on

    def _start_run(self) -> None:
        super()._start_run()
        if self.record.decision.stop and self.record.history[-1].finite:
            self.record.decision = Decision(False, "goes on after its rung", self.record.time)
        # The predictor's limit on the length of runs does not matter: candidates of equal length are ranked.
        self.record.training = replace(self.record.training, planned_epochs=None)

    def _open_record(self) -> None:
        """Goes on with the record where it is: a Trainer's logger takes a new folder in each lap."""
        super()._open_record()
        if self.folder is not None and not self._starts_here and self.writer.folder is not None:
            self.writer.folder = self.folder


class _RungDecider(RunDecider):
    def __init__(self, end: float | None, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._end_time = end
        self.reached = math.inf  # time of the reading at which the rung was found to be reached

    def predict(self, record: Record, epochs: int) -> None:
        """Ranks by predictions whatever the task is: the race's caller has named a predictor for it."""
        self.task.is_classification = True
        super().predict(record, epochs)

    def _decide(self, record: Record, epochs: int, blocked_by: str) -> None:
        if record.decision.stop:
            return
        if record.history and not record.history[-1].finite:
            record.decision = Decision(True, "weights are not finite", record.time)
        elif self._end_time is not None and record.time >= self._end_time:
            self.reached = min(self.reached, record.time)
            reason = f"the rung of {epochs_in_words(self._end_time)} is reached"
            record.decision = Decision(not blocked_by, blocked_by or reason, record.time)
