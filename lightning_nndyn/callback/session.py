"""The session of one run: what is done at each of Lightning's hooks, from a weight tensor to a stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_nndyn.callback.earlier_runs import EarlierRuns
from lightning_nndyn.callback.epochs import make_counter
from lightning_nndyn.callback.graph_reader import GraphReader
from lightning_nndyn.callback.loggers import RunSummary, log_summary
from lightning_nndyn.callback.logging import logging_step
from lightning_nndyn.callback.losses import LossMeter
from lightning_nndyn.callback.messages import (
    late_beginning,
    unknown_beginning,
    unknown_length,
    weights_stand_still,
)
from lightning_nndyn.callback.phases import EpochPhase, Phase, ReaderPhase
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import FINISHED, INTERRUPTED, RUNNING, STOPPED, RecordWriter
from lightning_nndyn.callback.session_parts import SessionParts
from lightning_nndyn.callback.start_line import start_line
from lightning_nndyn.callback.trainer_state import (
    is_complete,
    loss_divisor,
    metrics_shown,
    model_to_trace,
    training_setup,
    validation_follows,
)


class RunSession(SessionParts):
    """One run under one Trainer: its weights are read, a verdict predicted, a decision taken and logged.

    The callback owns it, and calls one public method from each hook while the session is active. Steps that
    may fail go through the guard. What all processes do together stands outside of these steps. When it comes
    depends on the schedule, not on what one process has found: otherwise one would wait for another for ever.
    """

    # -- begin and end ---------------------------------------------------------------------------------------

    def start_training(self) -> None:
        """Fixes when snapshots are due; a resumed run that was to be stopped stays stopped."""
        trainer, of = self.trainer, self.settings
        self.epochs = make_counter(trainer, of.snapshots, of.snapshot_every_n_steps)
        self.losses = LossMeter(self.epochs.batches, not trainer.lightning_module.automatic_optimization)
        self._starts_here = trainer.global_step == 0
        if self._starts_here:  # what an earlier fit has left is not this run's record
            self.record = Record()
        elif self._saved_losses is not None:
            self._try(self.losses.restore, self._saved_losses, trainer.strategy.root_device)
        self._saved_losses = None
        self._try(self._start_run)
        self._open_record()
        self.decisions.agree(trainer, self.record)
        self._stop_if_decided(trainer.current_epoch)

    def _start_run(self) -> None:
        if self._load_error is not None:
            raise self._load_error
        record, trainer, of = self.record, self.trainer, self.settings
        record.training = training_setup(trainer, of.snapshot_every_n_steps)
        last = record.history[-1] if record.history else None
        self.reader = GraphReader(of.layers, of.topology, record.first_weights, last, record.eigenvector)
        self.logger.resume(trainer, record)
        self.phase = Phase.TRAINING
        self.decisions.resume(record)
        if self.decisions.verdict_due(record) and self.epochs.by_steps and self.epochs.ending:
            self._epoch_phase = EpochPhase.VALIDATION
        if not self._starts_here and not record.from_start:
            self.decisions.maker = None
            self.messages.warn("beginning", unknown_beginning(trainer.global_step))
        self.messages.warn("length", unknown_length(self.epochs.schedule.impossible))

    def _open_record(self) -> None:
        """Settles, on all processes alike, what may become of the run, and finds the place of its record."""
        trainer, decisions = self.trainer, self.decisions
        decisions.open(trainer, self.record, self._starts_here)
        self.metrics.any_monitor = not decisions.task.monitors_accuracy
        if decisions.task.has_own_unit:
            self.record.unit = "own"
        self.metrics.may_be_percent = decisions.task.has_accuracy_name
        self.messages.warn("mode", decisions.task.question)
        audited = self.trial is None  # a sweep does without the audit's file
        metric = decisions.task.metric
        mode = None if metric is None else metric.mode
        params = None if self.trial is None else self.trial.member.params
        writer = RecordWriter.open(
            trainer, self.settings, self.record, decisions.facts, audited, mode, params
        )
        if self.guard.error is None:
            self.writer = writer
        of = self.settings
        compares = self.trial is None and of.earlier_runs and of.predictor is not None
        if compares and metric is not None and metric.mode is not None:
            decisions.earlier = EarlierRuns(writer.folder, metric.name, metric.sign)

    def end_training(self) -> None:
        """Records how the run has ended."""
        try:
            self._record_late()
            if self.epochs.num_started > self.epochs.num_ended and self.trainer.is_global_zero:
                metrics = self.trainer.callback_metrics
                self.metrics.record_epoch(self.record, self.epochs.num_started, metrics)
            if self._awaits_metric:
                self._conclude_late(in_batch=False)
            if self.active:
                self._end_run()
        finally:
            self.close()

    def end_fit(self) -> None:
        """Records the end of a run that had nothing left to train when it was resumed."""
        trainer, of = self.trainer, self.settings
        if self.record.from_start and is_complete(trainer):
            self.epochs = make_counter(trainer, of.snapshots, of.snapshot_every_n_steps)
            self._open_record()
            self._end_run()

    def _end_run(self) -> None:
        trainer, decision = self.trainer, self.record.decision
        will_stop = self.decisions.will_stop(self.record)
        flagged = decision.stop and decision.epoch < self.epochs.time(trainer)
        status = INTERRUPTED if trainer.interrupted else FINISHED
        if will_stop and not is_complete(trainer):
            status = STOPPED
        self.writer.end(self.record, status, flagged and not will_stop)
        self.decisions.finish_trial(trainer, self.record, stopped=status == STOPPED)
        self._log_summary()

    def interrupt(self) -> None:
        """Records that an exception has ended the run."""
        try:
            self.writer.end(self.record, INTERRUPTED)
            if self.decisions.will_stop(self.record):
                self._log_summary(in_batch=True)
        finally:
            self.close()

    def _log_summary(self, in_batch: bool = False) -> None:
        """Shows in the loggers' dashboards how the run was judged."""
        if self.guard.error is None and self.trainer.is_global_zero:
            of, will_stop = self.settings, self.decisions.will_stop(self.record)
            summary = RunSummary.from_record(self.record, will_stop, of.monitor, of.snapshot_every_n_steps)
            log_summary(self.trainer.loggers, summary, logging_step(self.trainer, in_batch))

    # -- batches ---------------------------------------------------------------------------------------------

    def start_batch(self, batch_idx: int) -> None:
        """Starts to trace the batch if no batch has shown the layers."""
        if batch_idx == 0 and not self.epochs.by_steps:
            self.losses.begin_epoch()
        if self._epoch_phase is EpochPhase.VALIDATION:  # none has come
            self._end_epoch(self.trainer.current_epoch, in_batch=False)
        else:
            self._record_late()
        if batch_idx == 0 or self.epochs.ending:
            self._try(self.reader.look_again)
        if self.reader.phase is ReaderPhase.WAITING:
            model, optimizers = model_to_trace(self.trainer), self.trainer.optimizers
            self._try(self.reader.start_tracing, model, optimizers)

    def end_forward(self, loss: Tensor) -> None:
        """Builds the graph from the forward pass that has just been made, and led to a loss."""
        if self.reader.phase is ReaderPhase.TRACING:
            self._end_forward(loss)

    def start_step(self) -> None:
        """Reads snapshot 0; with accumulated gradients the first step comes batches after the trace."""
        if self.start_due or self.reader.phase is ReaderPhase.TRACING:
            if self.reader.has_gradients:  # not after a training step that has returned no loss
                self._end_forward()
            self._read_start()

    def _end_forward(self, loss: Tensor | None = None) -> None:
        manual = not self.trainer.lightning_module.automatic_optimization
        self._try(self.reader.end_forward, manual, loss)
        self._see_task()
        self.decisions.withdraw(self.record, self.reader.lost)
        if manual:  # the next step may be one that Lightning does not see
            self._read_start()

    def _see_task(self) -> None:
        """Notes what the traced batch shows of the task."""
        sizes, task = self.reader.layer_sizes, self.decisions.task
        if sizes:
            task.see_losses(self.reader.losses, sizes[-1], len(self.trainer.optimizers))
            self._try(self._say_start)

    def _say_start(self) -> None:
        """Tells what is done with the run, once its first weights are on record."""
        reader = self.reader
        if self.record.from_start and reader.layer_names and not self.decisions.withdrawn:
            file = self.writer.file(self.record)
            names, frozen = reader.layer_names, reader.frozen
            self.messages.info(
                "start",
                start_line(self.trainer, self.settings, self.decisions, self.record, names, frozen, file),
            )

    def _read_start(self) -> None:
        if self.active and self._all_work():
            self._try(self._read_snapshot_0)

    def _read_snapshot_0(self) -> None:
        snapshot = self.reader.read_start() if self.start_due else None
        if snapshot is not None:
            self.record.history.append(snapshot)
            self.record.first_weights = self.reader.first_weights
            self.record.eigenvector = self.reader.eigenvector
            self.record.classes = max(2, self.reader.layer_sizes[-1])
            self.decisions.withdraw(self.record, late_beginning(self.epochs.num_ended))
            self._say_start()

    def end_batch(self, outputs: Any, batch_idx: int) -> None:
        """Reads the weights if that is due; what is decided inside an epoch takes effect at once."""
        trainer = self.trainer
        if self.reader.phase is ReaderPhase.TRACING:
            self._try(self.reader.end_batch, trainer.lightning_module, self.start_due)
            self._see_task()
        if self._awaits_metric:
            self._conclude_late(in_batch=True)
            if not self.active:
                return
        self.guard.attempt(trainer, self.losses.add, outputs, loss_divisor(trainer))
        due = self.epochs.after_batch(trainer, batch_idx + 1)
        if due:
            self._read_in_batch(due)
        if self.epochs.by_steps and self.epochs.ending and self.active:
            self._end_step_epoch()

    # -- readings and decisions ------------------------------------------------------------------------------

    def _read_in_batch(self, due: Sequence[float]) -> None:
        trainer = self.trainer
        last = trainer.is_last_batch
        # A verdict on an epoch's end needs its validation, which is still to come.
        defer_verdict = self.epochs.ending and self.settings.monitor is not None
        self._read(due, defer_verdict)
        if not defer_verdict:
            self._conclude(trainer.current_epoch + last, in_batch=True)
        if not last:
            self._stop_if_decided(trainer.current_epoch)

    def _read(self, due: Sequence[float], defer_verdict: bool) -> None:
        strategy = self.trainer.strategy
        losses = torch.full((2,), math.nan, device=strategy.root_device)
        self._try(self._read_losses, losses)
        # Processes see other batches: all judge by the mean of their losses.
        losses = strategy.reduce(losses, reduce_op="mean")
        self.decisions.task.see_names(metrics_shown(self.trainer))
        self._try(self._read_snapshots, due, losses, defer_verdict)

    def _read_losses(self, out: Tensor) -> None:
        out.copy_(self.losses.read(out.device))

    def _read_snapshots(self, due: Sequence[float], losses: Tensor | Any, defer_verdict: bool) -> None:
        self._read_snapshot_0()  # may be due where gradients are accumulated: no weight has changed then
        snapshots = self.reader.read(due, after=self.record.time)
        self.decisions.withdraw(self.record, self.reader.lost)
        if not snapshots:
            return
        self.writer.layer_sizes = self.reader.layer_sizes
        self.record.eigenvector = self.reader.eigenvector
        so_far, lately = losses.tolist()
        for snapshot in snapshots:
            self.record.history.append(snapshot)
            self.record.losses[snapshot.epoch] = (so_far, lately)
            if not defer_verdict:
                self.decisions.predict(self.record, self.epochs.num_ended)
        if self.record.has_not_moved and self.record.loss_has_moved:
            self.decisions.withdraw(self.record, weights_stand_still(self.reader.layer_names))

    def _conclude(self, epochs: int, in_batch: bool) -> None:
        """Decides upon what was read, and logs it.

        Args:
            epochs: how many of the Trainer's have ended, including one that ends now.
            in_batch: whether the Trainer is still busy with the last batch.
        """
        self.decisions.task.see_names(metrics_shown(self.trainer))
        self._try(self.decisions.predict, self.record, self.epochs.num_ended)
        if self._all_work():
            self.decisions.decide(self.trainer, self.record, self.epochs.num_ended, epochs)
            self._try(self.logger.log, self.trainer, self.record, self.decisions.sweep_values, in_batch)

    def _stop_if_decided(self, epochs: int) -> None:
        if self.active:
            self.decisions.stop_if_decided(self.trainer, self.record, epochs)

    # -- epochs ----------------------------------------------------------------------------------------------

    def start_epoch(self) -> None:
        """Records what the model has logged at the end of the epoch before, after our hook."""
        self._record_late()

    def end_validation(self) -> None:
        """Records the new validation accuracy, in time for a checkpoint that is saved next."""
        trainer = self.trainer
        if trainer.sanity_checking:
            return
        self.metrics.record_validation(trainer, self.record, self.epochs.validated_epoch(trainer))
        if self._epoch_phase is EpochPhase.VALIDATION:
            self._end_epoch(trainer.current_epoch + trainer.is_last_batch, in_batch=True)

    def end_epoch(self) -> None:
        """Decides what the end of the loader's epoch allows, such as a stop that `min_epochs` has blocked."""
        trainer = self.trainer
        if self.reader.phase is ReaderPhase.TRACING:  # the model skipped the rest in `on_train_batch_start`
            self._try(self.reader.end_batch, trainer.lightning_module, self.start_due)
        due, epochs = self.epochs.after_epoch(trainer), trainer.current_epoch + 1
        if due:  # judged with the metrics of the epoch
            self._read(due, defer_verdict=self.settings.monitor is not None)
        if self._epoch_phase is EpochPhase.VALIDATION or not self.epochs.by_steps:
            self._end_epoch(epochs, in_batch=False)
        else:
            self._conclude(epochs, in_batch=False)
            self._stop_if_decided(epochs)

    def _end_step_epoch(self) -> None:
        """Ends an epoch of optimizer steps, unless validation comes first."""
        self.losses.begin_epoch()
        trainer = self.trainer
        if trainer.strategy.reduce_boolean_decision(validation_follows(trainer), all=True):
            self._epoch_phase = EpochPhase.VALIDATION
        else:
            self._end_epoch(trainer.current_epoch + trainer.is_last_batch, in_batch=True)

    def _end_epoch(self, epochs: int, in_batch: bool) -> None:
        """Judges an epoch of ours that has ended, with its validation if one has come; see `_conclude`."""
        trainer, ended = self.trainer, self.epochs.num_ended
        # May be computed now, on all processes together.
        self.metrics.record(trainer, self.record, ended, trainer.callback_metrics)
        if self.record.unit == "percent":
            self.messages.info("percent", f"{self.settings.monitor} is in percent, and read as a fraction")
        self._epoch_phase = EpochPhase.METRICS
        self._awaits_metric = not self.epochs.by_steps and self.metrics.is_awaited(self.record, ended)
        if not self._awaits_metric:
            self._conclude(epochs, in_batch)
            if not (in_batch and trainer.is_last_batch):  # then the end of the loader's epoch follows
                self._stop_if_decided(epochs)
        if self.active:
            self.writer.write(self.record, RUNNING)

    def _record_late(self) -> None:
        """Records what was logged for the epoch that has ended, after our hook."""
        if self._epoch_phase is EpochPhase.METRICS:
            self._epoch_phase, trainer = EpochPhase.BATCHES, self.trainer
            self.metrics.record(
                trainer, self.record, self.epochs.num_ended, metrics_shown(trainer), late=True
            )
            self.messages.warn("monitor", self.metrics.complaint(trainer, self.record, self.epochs))

    def _conclude_late(self, in_batch: bool) -> None:
        """Judges an epoch whose metric has come after our hook; a stop takes effect after a batch."""
        self._awaits_metric, epochs = False, self.trainer.current_epoch
        self._conclude(epochs, in_batch)
        if in_batch:
            self._stop_if_decided(epochs)
