"""The session of one run: what is done at each of Lightning's hooks, from a weight tensor to a stop."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

from torch import Tensor

from lightning_nndyn._files import decode
from lightning_nndyn.callback.decision import RunDecider
from lightning_nndyn.callback.epochs import EpochCounter, make_counter
from lightning_nndyn.callback.graph_reader import GraphReader
from lightning_nndyn.callback.guard import Guard
from lightning_nndyn.callback.loggers import RunSummary, log_summary
from lightning_nndyn.callback.logging import ValueLogger, logging_step
from lightning_nndyn.callback.losses import LossMeter, LossState
from lightning_nndyn.callback.messages import (
    Messages,
    frozen_layers,
    layers_changed,
    unknown_beginning,
    unknown_length,
    weights_stand_still,
)
from lightning_nndyn.callback.metrics import LoggedMetrics
from lightning_nndyn.callback.phases import EpochPhase, Phase, ReaderPhase
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import FINISHED, INTERRUPTED, RUNNING, STOPPED, RecordWriter
from lightning_nndyn.callback.settings import Settings
from lightning_nndyn.callback.trainer_state import (
    is_complete,
    loss_divisor,
    model_to_trace,
    training_setup,
    validation_follows,
)
from lightning_nndyn.callback.trial import TrialSession

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

P = ParamSpec("P")

_ACTIVE = (Phase.TRAINING, Phase.OPEN, Phase.FAILED)


class RunSession:
    """One run under one Trainer: its weights are read, a verdict predicted, a decision taken and logged.

    The callback owns it, and calls one public method from each hook while the session is active. Steps that
    may fail go through the guard. What all processes do together stands outside of these steps. When it comes
    depends on the schedule, not on what one process has found: otherwise one would wait for another for ever.

    Args:
        settings: the callback's arguments.
        trial: the run's trial in a sweep; None without one.

    Attributes:
        phase: how far the session is.
        record: what was read, predicted and decided.
        reader: reads the graph of the weights.
        losses: the training losses of the epoch.
        epochs: counts epochs, and knows when weights are to be read.
        metrics: those that the model logs.
        decisions: predicts and decides.
        logger: logs values to the Trainer's loggers.
        writer: writes the record.
        guard: where failures end.
        trainer: of the fit; only while the session is active.
    """

    trainer: Trainer

    def __init__(self, settings: Settings, trial: TrialSession | None = None) -> None:
        self.settings, self.trial = settings, trial
        self.phase, self._epoch_phase = Phase.IDLE, EpochPhase.BATCHES
        self.record, self.losses = Record(), LossMeter()
        self.reader = GraphReader(settings.layers, settings.topology)
        self.epochs, self.metrics = EpochCounter(), LoggedMetrics(settings.monitor)
        self.guard, self.messages = Guard(settings.strict, self._fail), Messages(settings.verbose)
        self.decisions = RunDecider(settings, trial, self.messages, self.guard)
        self.logger, self.writer = ValueLogger(settings.log_signature), RecordWriter(None, {})
        self._starts_here = False  # whether training begins with step 0, not from a checkpoint
        self._owner: weakref.ref[Trainer] | None = None
        self._saved_losses: LossState | None = None  # of the epoch that a checkpoint was saved in
        self._load_error: Exception | None = None  # why a checkpoint's record cannot be read

    @property
    def active(self) -> bool:
        """Whether a fit is open that the session takes part in."""
        return self.phase in _ACTIVE

    @property
    def start_due(self) -> bool:
        """Whether snapshot 0 is still to be read, which is before any weight changes."""
        return self._starts_here and not self.record.history

    def __getstate__(self) -> dict[str, Any]:
        """Without the Trainer: processes that are spawned get the callback pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "trainer"} | {"_owner": None}

    # -- begin and end ---------------------------------------------------------------------------------------

    def open(self, trainer: Trainer, previous: RunSession) -> None:
        """Takes part in a fit, and loads the predictor.

        Args:
            trainer: of the fit.
            previous: the session before. Where its Trainer fits once more, the run may go on.
        """
        self.trainer, self._owner, self.phase = trainer, weakref.ref(trainer), Phase.OPEN
        if previous._owner is not None and previous._owner() is trainer:
            self.record, self.losses = previous.record, previous.losses
            self._saved_losses, self._load_error = previous._saved_losses, previous._load_error
        self._try(self.decisions.load_predictor)

    def start_training(self) -> None:
        """Fixes when snapshots are due; a resumed run that was to be stopped stays stopped."""
        trainer, of = self.trainer, self.settings
        self.epochs = make_counter(trainer, of.snapshots, of.snapshot_every_n_steps)
        self.losses = LossMeter(self.epochs.batches, not trainer.lightning_module.automatic_optimization)
        self._starts_here = trainer.global_step == 0
        if self._starts_here:  # what an earlier fit has left is not this run's record
            self.record = Record()
        elif self._saved_losses is not None:
            self.losses.restore(self._saved_losses, trainer.strategy.root_device)
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
        self.reader = GraphReader(of.layers, of.topology, record.first_weights)
        self.logger.skip(record)
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
        self.metrics.any_monitor = decisions.in_sweep and self.settings.predictor is None
        audited = self.trial is None  # a sweep does without the audit's file
        writer = RecordWriter.open(trainer, self.settings, self.record, decisions.facts, audited)
        if self.guard.error is None:
            self.writer = writer

    def end_training(self) -> None:
        """Records how the run has ended."""
        if self._epoch_phase is EpochPhase.METRICS or self.epochs.num_started > self.epochs.num_ended:
            self._record_metrics(self.epochs.num_started)
        self._end_run()

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
        self.close()

    def interrupt(self) -> None:
        """Records that an exception has ended the run."""
        self.writer.end(self.record, INTERRUPTED)
        if self.decisions.will_stop(self.record):
            self._log_summary(in_batch=True)
        self.close()

    def _log_summary(self, in_batch: bool = False) -> None:
        """Shows in the loggers' dashboards how the run was judged."""
        if self.guard.error is None and self.trainer.is_global_zero:
            of, will_stop = self.settings, self.decisions.will_stop(self.record)
            summary = RunSummary.from_record(self.record, will_stop, of.monitor, of.snapshot_every_n_steps)
            log_summary(self.trainer.loggers, summary, logging_step(self.trainer, in_batch))

    def close(self, phase: Phase = Phase.ENDED) -> None:
        """Removes all hooks, and lets go of model and Trainer."""
        if self.active:
            self.phase = phase
            self.reader.close()
            del self.trainer

    # -- failures --------------------------------------------------------------------------------------------

    def _try(self, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Takes a step that may fail; see `Guard.attempt`."""
        self.guard.attempt(self.trainer, step, *args, **kwargs)

    def _fail(self) -> None:
        self.phase = Phase.FAILED
        self.reader.close()

    def _all_work(self) -> bool:
        """Whether no process has failed. Otherwise all give up: they must keep logging the same keys."""
        works = self.guard.all_work(self.trainer)
        if not works:
            self.writer.end(self.record, INTERRUPTED)  # nobody reads the run to its end
            self.close(Phase.DISABLED)
            self.guard.raise_if_strict()
        return works

    # -- batches ---------------------------------------------------------------------------------------------

    def start_batch(self, batch_idx: int) -> None:
        """Starts to trace the batch if no batch has shown the layers."""
        if batch_idx == 0 and not self.epochs.by_steps:
            self.losses.begin_epoch()
        if self._epoch_phase is EpochPhase.VALIDATION:  # none has come
            self._end_epoch(self.trainer.current_epoch, in_batch=False)
        elif self._epoch_phase is EpochPhase.METRICS:
            self._record_metrics(self.epochs.num_ended)
        if batch_idx == 0:
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
        self.messages.info("frozen", frozen_layers(self.reader.frozen))
        self._check_layers()
        if manual:  # the next step may be one that Lightning does not see
            self._read_start()

    def _read_start(self) -> None:
        if self.active and self._all_work():
            self._try(self._read_snapshot_0)

    def _read_snapshot_0(self) -> None:
        snapshot = self.reader.read_start() if self.start_due else None
        if snapshot is not None:
            self.record.history.append(snapshot)
            self.record.first_weights = self.reader.first_weights
            self.record.classes = max(2, self.reader.layer_sizes[-1])

    def end_batch(self, outputs: Any, batch_idx: int) -> None:
        """Reads the weights if that is due; what is decided inside an epoch takes effect at once."""
        trainer = self.trainer
        if self.reader.phase is ReaderPhase.TRACING:
            self._try(self.reader.end_batch, trainer.lightning_module, self.start_due)
        self.losses.add(outputs, loss_divisor(trainer))
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
        # Processes see other batches: all judge by the mean of their losses.
        losses = strategy.reduce(self.losses.read(strategy.root_device), reduce_op="mean")
        self._try(self._read_snapshots, due, losses, defer_verdict)

    def _read_snapshots(self, due: Sequence[float], losses: Tensor | Any, defer_verdict: bool) -> None:
        self._read_snapshot_0()  # may be due where gradients are accumulated: no weight has changed then
        snapshots = self.reader.read(due, after=self.record.time)
        self._check_layers()
        if not snapshots:
            return
        self.writer.layer_sizes = self.reader.layer_sizes
        so_far, lately = losses.tolist()
        for snapshot in snapshots:
            self.record.history.append(snapshot)
            self.record.losses[snapshot.epoch] = (so_far, lately)
            if not defer_verdict:
                self.decisions.predict(self.record)
        if self.record.has_not_moved and self.record.loss_has_moved:
            self._judge_no_more(weights_stand_still(self.reader.layer_names))

    def _check_layers(self) -> None:
        if self.reader.lost:
            self._judge_no_more(layers_changed(self.reader.lost))

    def _judge_no_more(self, why: str) -> None:
        """From now on nothing is predicted and decided."""
        self.decisions.withdraw(self.record, why)
        self.messages.warn("withdrawn", why)

    def _conclude(self, epochs: int, in_batch: bool) -> None:
        """Decides upon what was read, and logs it.

        Args:
            epochs: how many of the Trainer's have ended, including one that ends now.
            in_batch: whether the Trainer is still busy with the last batch.
        """
        self._try(self.decisions.predict, self.record)
        if self._all_work():
            self.decisions.decide(self.trainer, self.record, self.epochs.num_ended, epochs)
            self._try(self.logger.log, self.trainer, self.record, self.decisions.sweep_values, in_batch)

    def _stop_if_decided(self, epochs: int) -> None:
        if self.active:
            self.decisions.stop_if_decided(self.trainer, self.record, epochs)

    # -- epochs ----------------------------------------------------------------------------------------------

    def start_epoch(self) -> None:
        """Records what the model has logged at the end of the epoch before, after our hook."""
        if self._epoch_phase is EpochPhase.METRICS:
            self._record_metrics(self.epochs.num_ended)

    def end_validation(self) -> None:
        """Records the new validation accuracy, in time for a checkpoint that is saved next."""
        trainer = self.trainer
        if trainer.sanity_checking:
            return
        epoch = self.epochs.validated_epoch(trainer)
        self.messages.warn("monitor", self.metrics.record_validation(trainer, self.record, epoch))
        if self._epoch_phase is EpochPhase.VALIDATION:
            self._end_epoch(trainer.current_epoch + trainer.is_last_batch, in_batch=True)

    def end_epoch(self) -> None:
        """Decides what the end of the loader's epoch allows, such as a stop that `min_epochs` has blocked."""
        trainer = self.trainer
        if self.reader.phase is ReaderPhase.TRACING:  # the model skipped the rest in `on_train_batch_start`
            self._try(self.reader.end_batch, trainer.lightning_module, self.start_due)
        due, epochs = self.epochs.after_epoch(trainer), trainer.current_epoch + 1
        if due:
            self._record_gap()
            self._read(due, defer_verdict=False)
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
        self._epoch_phase, trainer = EpochPhase.BATCHES, self.trainer
        self._record_gap()
        self._conclude(epochs, in_batch)
        if not (in_batch and trainer.is_last_batch):  # then the end of the loader's epoch follows
            self._stop_if_decided(epochs)
        if self.active:
            self._record_metrics(self.epochs.num_ended)
            self._epoch_phase = EpochPhase.METRICS
            self.writer.write(self.record, RUNNING)

    def _record_gap(self) -> None:
        self.messages.warn("monitor", self.metrics.record_gap(self.trainer, self.record, self.epochs))

    def _record_metrics(self, epochs: int) -> None:
        self._epoch_phase = EpochPhase.BATCHES
        metrics = self.trainer.callback_metrics  # may be computed now, on all processes together
        if self.trainer.is_global_zero:
            self.metrics.record_epoch(self.record, epochs, metrics)

    # -- checkpoints -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The record of the run, so that a resumed one goes on with it."""
        return {**self.record.state_dict(), "epoch_losses": self.losses.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up the record of an interrupted run; what cannot be read is reported once training starts."""
        try:
            self.record, self._load_error = Record.from_state_dict(state), None
            self._saved_losses = decode(state.get("epoch_losses"), LossState)
        except Exception as error:
            self._load_error = error
