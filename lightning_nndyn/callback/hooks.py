"""What Lightning calls, and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_nndyn.callback.audit import SWITCHED_OFF, why_spared
from lightning_nndyn.callback.fit import Fit
from lightning_nndyn.callback.judge import Judge, name_of
from lightning_nndyn.callback.keeper import FINISHED, INTERRUPTED, RUNNING, STOPPED, Keeper, record_folder
from lightning_nndyn.callback.losses import LossMeter
from lightning_nndyn.callback.namespaces import CallbackBase
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.schedule import Schedule, check_times
from lightning_nndyn.callback.trainer import (
    at_full_length,
    broken_off,
    held_back,
    log,
    logged_values,
    loss_parts,
    note_accuracy,
    training_of,
    validates,
)
from lightning_nndyn.callback.watch import Watch
from lightning_nndyn.errors import NNDynError
from lightning_nndyn.policy import Decision, Policy
from lightning_nndyn.predictor import Predictor, Verdict
from lightning_nndyn.signature import Snapshot

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from torch import Tensor
    from torch.optim import Optimizer


class GraphDynamicsCallback(CallbackBase):
    """Predicts a run's final accuracy from the graph of its weights, and stops it if there is little hope.

    The layers are found by watching the first training batch. The weights are read before the first step,
    after fractions of the first epoch and after each epoch; each reading is a `Snapshot`, and a predictor
    turns the snapshots so far into a `Verdict`; with ``monitor`` it also reads the run's losses and
    validation accuracies, which after some epochs tell more than the weights. ``nndyn/predicted_accuracy``,
    ``nndyn/p_low``, ``nndyn/risk``, ``nndyn/stop`` and ``nndyn/in_domain`` (0 where the prediction is not to
    be trusted) are logged, the same on every process, in time for ModelCheckpoint and EarlyStopping to
    monitor them; with ``monitor`` those of an epoch's end are known only after its validation.

    Each run leaves a record, ``nndyn-RUN.json``, in its log folder: what was read, said and decided, the
    metrics after each epoch, and how it ended. ``nndyn fit --runs`` makes a predictor of one's own of them.

    Training itself is left as it is: no random number is drawn, no gradient, buffer or weight touched. What
    goes wrong in here warns once, and training goes on without the callback. It does nothing in
    ``fast_dev_run``, sanity checking, validation, test and prediction.

    Works with the Trainers of ``lightning`` and of ``pytorch_lightning``. In a LightningCLI file::

        trainer:
          callbacks:
            - class_path: lightning_nndyn.GraphDynamicsCallback
              init_args: {predictor: lenet5-digits, action: observe}

    Args:
        predictor: the name of a shipped predictor, the path of a saved one, or the predictor itself. It acts
            only in its domain: elsewhere it says so once and stops nothing, except what has diverged. None
            reads and logs the signature alone.
        action: ``"stop"`` ends the run through ``trainer.should_stop``, not before the Trainer's
            ``min_epochs`` and ``min_steps``; ``"observe"`` never does, and logs what would have been done.
        snapshots: times in epochs at which the weights are read: fractions of the first epoch, whole epochs
            after that. None for 1/16, 1/8, 1/4 and 1/2 of the first epoch and every epoch's end. Time 0 is
            always read.
        max_false_stop_rate: the share of good runs that may be stopped by mistake, as the predictor's corpus
            tells.
        confidence: with which that share is kept, such as 0.9; None keeps it on average.
        monitor: name of the logged metric that is the validation accuracy (a fraction), such as
            ``"val_acc"``; None judges by the weights alone.
        threshold: the probability of low accuracy above which a run is stopped; None derives it from
            ``max_false_stop_rate``.
        audit_share: probability with which a condemned run is let finish on purpose, for a sweep to find out
            how many good runs it loses; needs ``monitor``. How audited runs end is noted in
            ``nndyn-audit.jsonl`` in the Trainer's ``default_root_dir``; once they show, with a confidence of
            95 %, that more than ``max_false_stop_rate`` of the good runs are condemned, no more are stopped.
        record: whether to leave a record in the log folder of a Trainer with a logger; or the folder to leave
            it in.
        log_signature: whether to log each snapshot's statistics too (``nndyn/degree_mean``, ...).
        layers: names of the chain's layers, first to last, for a model that cannot be traced.
        strict: raise instead of warning when something goes wrong.
        verbose: whether to print why a run is stopped, or why it cannot be.

    Attributes:
        history: the snapshots so far, snapshot 0 first.
        verdicts: what the predictor said of them.
        decision: what follows: whether to stop, why, and at which verdict's time. With ``"observe"`` it is
            what would have been done; once it says stop, it stays.

    Raises:
        ValueError: if ``action`` is unknown, a time in ``snapshots`` is neither fraction nor whole, or
            ``audit_share`` is no share or has no ``monitor``.
        PredictorError: if ``max_false_stop_rate``, ``confidence`` or ``threshold`` is out of its range.
    """

    def __init__(
        self,
        predictor: str | Path | Predictor | None = "universal",
        action: Literal["stop", "observe"] = "stop",
        snapshots: Sequence[float] | None = None,
        monitor: str | None = None,
        max_false_stop_rate: float = 0.05,
        confidence: float | None = None,
        threshold: float | None = None,
        audit_share: float = 0.0,
        record: bool | str | Path = True,
        log_signature: bool = False,
        layers: list[str] | None = None,
        strict: bool = False,
        verbose: bool = True,
    ) -> None:
        if action not in ("stop", "observe"):
            raise ValueError(f"action={action!r} is unknown: take 'stop' or 'observe'")
        Policy({}, max_false_stop_rate, threshold, confidence=confidence)  # checks the three
        if not 0 <= audit_share < 1 or (audit_share and monitor is None):
            raise ValueError(
                f"audit_share={audit_share} with monitor={monitor!r}: give a share in [0, 1) such as 0.05, "
                "and the metric that tells how the audited runs end"
            )
        self.predictor = predictor
        self.action = action
        self.snapshots = check_times(snapshots)
        self.max_false_stop_rate = max_false_stop_rate
        self.monitor = monitor
        self.confidence = confidence
        self.threshold = threshold
        self.audit_share = audit_share
        self.record = record
        self.log_signature = log_signature
        self.layers = layers
        self.strict = strict
        self.verbose = verbose
        self._record = Record()
        self._losses = LossMeter()
        self._losses_before: Mapping[str, Any] | None = None  # of the epoch that a checkpoint was saved in
        self._unreadable: Exception | None = None  # why a checkpoint's record could not be loaded
        self._fit: Fit | None = None

    @property
    def history(self) -> list[Snapshot]:
        """The snapshots so far."""
        return self._record.history

    @property
    def verdicts(self) -> list[Verdict]:
        """The predictor's verdicts so far."""
        return self._record.verdicts

    @property
    def decision(self) -> Decision:
        """The latest decision."""
        return self._record.decision

    # -- life cycle of a fit ---------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Loads the predictor."""
        if stage == "fit" and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._fit = Fit(Watch(self.layers))
            self._attempt(trainer, self._load)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fixes when snapshots are due; a resumed run that was to be stopped stays stopped."""
        if self._fit is None:
            return
        fit = self._fit
        # All processes keep to one schedule, or they would wait for each other at different batches.
        batches = trainer.strategy.broadcast(trainer.num_training_batches)
        fit.schedule = Schedule.of(self.snapshots, batches)
        fit.watch.start_due = trainer.global_step == 0
        self._losses, losses_before = LossMeter(batches), self._losses_before
        self._losses_before = None
        if fit.watch.start_due:  # what an earlier fit has left is not this run's record
            self._record = Record()
        elif losses_before is not None:
            self._losses.restore(losses_before, trainer.strategy.root_device)
        self._attempt(trainer, partial(self._begin, trainer))
        self._open(trainer, fit)
        self._agree(trainer)
        self._act(trainer, trainer.current_epoch)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Removes the hooks: Lightning calls no `teardown` after an exception."""
        if self._fit is not None:
            self._fit.keeper.end(self._record, INTERRUPTED)
        self._close()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes how the run has ended."""
        fit = self._fit
        if fit is None:
            return
        self._note_metrics(trainer, fit)
        condemned = self.decision.stop and self.decision.epoch < trainer.current_epoch
        if self._stops and not at_full_length(trainer):
            status = STOPPED
        else:
            status = INTERRUPTED if trainer.interrupted else FINISHED
        fit.keeper.end(self._record, status, condemned and not self._stops)

    @property
    def _stops(self) -> bool:
        """Whether what was decided stops this run."""
        return self.decision.stop and self.action == "stop" and not self._record.spared

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of the model."""
        self._close()

    def _load(self, fit: Fit) -> None:
        if self.predictor is not None:
            fit.judge = Judge.of(self.predictor, self.max_false_stop_rate, self.threshold, self.confidence)

    def _begin(self, trainer: Trainer, fit: Fit) -> None:
        if self._unreadable is not None:
            raise self._unreadable
        self._record.training = training_of(trainer)
        if not fit.watch.start_due and not self._record.from_start:
            fit.judge = None
            fit.warn(
                "late",
                f"training goes on from step {trainer.global_step}, and there is no record of its beginning: "
                "the weights are read, nothing is predicted or stopped",
            )
        record, fit.logged = self._record, (len(self.history), len(self.verdicts))
        fit.unheard = bool(record.losses) and (not self.verdicts or self.verdicts[-1].epoch < record.time)
        fit.watch.first_weights = record.first_weights
        if fit.schedule.impossible:
            times = ", ".join(f"{time:g}" for time in fit.schedule.impossible)
            fit.warn(
                "length",
                "the training data loader has no length, so the weights cannot be read after fractions of "
                f"the first epoch ({times}), only at its end: Trainer(limit_train_batches=...) gives it one",
            )

    def _open(self, trainer: Trainer, fit: Fit) -> None:
        """Finds the place of the run's record, and settles whether it is spared: on all processes alike."""
        record, log_folder = self._record, trainer.log_dir  # the latter is a collective call
        if fit.watch.start_due and self.audit_share and self.action == "stop" and trainer.is_global_zero:
            self._attempt(trainer, partial(self._draw, trainer))
        record.run, record.spared = trainer.strategy.broadcast((record.run, record.spared))
        if record.spared:
            self._say("spared", record.spared)
        if fit.error is not None or not trainer.is_global_zero:
            return
        always = self.action == "observe" or record.spared.startswith(SWITCHED_OFF)
        facts = {"monitor": self.monitor, "predictor": name_of(self.predictor), "action": self.action}
        fit.keeper = Keeper(
            record_folder(trainer, self.record, log_folder),
            {**facts, "max_epochs": trainer.max_epochs},
            Path(trainer.default_root_dir) if self.audit_share else None,
            1.0 if always else self.audit_share,
            self.monitor or "",
        )

    def _draw(self, trainer: Trainer, fit: Fit) -> None:
        if fit.judge is not None:
            bar = fit.judge.predictor.low_threshold, fit.judge.predictor.low_share
            budget = self.max_false_stop_rate
            self._record.spared = why_spared(Path(trainer.default_root_dir), self.audit_share, budget, *bar)

    def _close(self) -> None:
        fit, self._fit = self._fit, None
        if fit is not None:
            fit.watch.close()
        for name in ("log", "log_dict"):  # the Trainer gives callbacks these methods of the model
            self.__dict__.pop(name, None)

    # -- the first batch and snapshot 0 ----------------------------------------------------------------------

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Starts to watch the first batch."""
        fit = self._fit
        if fit is not None and batch_idx == 0:
            self._losses.begin_epoch()
        if fit is not None and fit.watch.idle:
            self._attempt(trainer, lambda fit: fit.watch.begin_batch(pl_module))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Builds the graph from the forward pass that has just been made."""
        fit = self._fit
        if fit is not None and fit.watch.tracing:
            self._attempt(trainer, partial(self._forward_done, pl_module))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Reads snapshot 0; with accumulated gradients the first step comes batches after the trace."""
        fit = self._fit
        if fit is not None and (fit.watch.start_due or fit.watch.tracing):
            self._attempt(trainer, partial(self._forward_done, pl_module))
            self._attempt(trainer, self._read_start)

    def _forward_done(self, pl_module: LightningModule, fit: Fit) -> None:
        manual = not pl_module.automatic_optimization
        fit.watch.forward_done(nested=manual)
        if manual:  # the next step may be one that Lightning does not see
            self._read_start(fit)

    def _read_start(self, fit: Fit) -> None:
        snapshot = fit.watch.read(0.0) if fit.watch.start_due else None
        if snapshot is not None:
            self.history.append(snapshot)
            self._record.first_weights = fit.watch.first_weights
            self._record.classes = max(2, fit.watch.outputs)

    # -- snapshots, verdicts, decisions ----------------------------------------------------------------------

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Reads the weights where that is due; what is decided inside an epoch takes effect at once."""
        fit = self._fit
        if fit is None:
            return
        if fit.watch.tracing:
            self._attempt(trainer, lambda fit: fit.watch.end_batch(pl_module))
        self._losses.add(outputs, loss_parts(trainer))
        epoch, last = trainer.current_epoch, trainer.is_last_batch
        due = fit.schedule.after_batch(epoch, batch_idx + 1, last)
        if due:
            self._visit(trainer, pl_module, fit, due, epoch + last)
            if not last:
                self._act(trainer, epoch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the new validation accuracy, in time for a checkpoint that is saved next."""
        if self._fit is not None and self.monitor is not None and not trainer.sanity_checking:
            logged = trainer.callback_metrics.get(self.monitor)
            self._fit.warn("monitor", note_accuracy(trainer, self._record, self.monitor, logged))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decides what the epoch's end allows, such as what `min_epochs` has held back."""
        fit = self._fit
        if fit is None:
            return
        if fit.watch.tracing:  # the model skipped the rest of the epoch from its `on_train_batch_start`
            self._attempt(trainer, lambda fit: fit.watch.end_batch(pl_module))
        epochs = trainer.current_epoch + 1
        if self.monitor is not None and len(self._record.accuracies) < epochs:  # there was no validation
            doubt = note_accuracy(trainer, self._record, self.monitor, None)
            fit.warn("monitor", doubt if validates(trainer) else "")
        due = fit.schedule.after_epoch(trainer.current_epoch)
        if due and fit.visited < due[-1] and not broken_off(trainer):
            # The model has cut the epoch short, or the run is resumed between the last batch and here.
            self._visit(trainer, pl_module, fit, due, epochs, in_batch=False)
        else:
            self._attempt(trainer, self._hear)
            self._conclude(trainer, pl_module, fit, epochs, in_batch=False)
        self._act(trainer, epochs)
        if self._fit is not None:
            fit.epochs = epochs
            self._note_metrics(trainer, fit)
            fit.keeper.write(self._record, RUNNING)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes what the model has logged at the end of the epoch before, after us."""
        if self._fit is not None:
            self._note_metrics(trainer, self._fit)

    def _note_metrics(self, trainer: Trainer, fit: Fit) -> None:
        if fit.epochs and trainer.is_global_zero:
            fit.keeper.note(self._record, fit.epochs, trainer.callback_metrics)

    def _visit(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        fit: Fit,
        due: Sequence[float],
        epochs: int,
        in_batch: bool = True,
    ) -> None:
        """Reads, judges and logs. When processes meet depends on the schedule, not on what one has found."""
        fit.visited = due[-1]
        # An epoch's end is judged once its validation has come.
        waits = in_batch and trainer.is_last_batch and self.monitor is not None
        # Processes see other batches: all judge by the mean of their losses.
        losses = trainer.strategy.reduce(self._losses.read(trainer.strategy.root_device), reduce_op="mean")
        self._attempt(trainer, partial(self._read, pl_module, due, losses, waits))
        if not waits:
            self._attempt(trainer, self._hear)
            self._conclude(trainer, pl_module, fit, epochs, in_batch)

    def _conclude(
        self, trainer: Trainer, pl_module: LightningModule, fit: Fit, epochs: int, in_batch: bool
    ) -> None:
        """Decides upon what was read, and logs it."""
        if not self._agree_to_go_on(trainer, fit):
            return
        self._attempt(trainer, partial(self._judge, held_back(trainer, epochs), epochs))
        self._agree(trainer)
        values = logged_values(self._record, *fit.logged, self.log_signature)
        fit.logged = (len(self.history), len(self.verdicts))
        if values and not trainer.barebones:
            self._attempt(trainer, lambda fit: log(trainer, pl_module, values, in_batch))

    def _read(
        self, pl_module: LightningModule, due: Sequence[float], losses: Tensor, waits: bool, fit: Fit
    ) -> None:
        self._read_start(fit)  # may be due where gradients are accumulated: no weight has changed then
        due, fit.postponed = (*fit.postponed, *due), ()
        if due[-1] < 1 and not fit.watch.moved(pl_module):
            # Accumulated gradients, or steps that a gradient scaler skips. Weights that have not moved look
            # hopeless, so these times wait for the next one.
            fit.postponed = due
            return
        for time in due:
            snapshot = fit.watch.read(time) if time > self._record.time else None
            if snapshot is None:  # read before the run was interrupted
                continue
            so_far, lately = losses.tolist()
            self.history.append(snapshot)
            self._record.losses[time] = (so_far, lately)
            fit.unheard = True
            if not waits:
                self._hear(fit)

    def _hear(self, fit: Fit) -> None:
        unheard, fit.unheard = fit.unheard, False
        if unheard and fit.judge is not None:
            fit.warn("kind", fit.judge.choose_kind(self._record, self.monitor is not None))
            fit.judge.hear(self._record)

    def _judge(self, held_back: str, epochs: int, fit: Fit) -> None:
        if fit.judge is not None:
            fit.judge.decide(self._record, epochs, held_back)
            if fit.judge.powerless(self._record):
                self._say("powerless", f"this run {self.decision.reason}")

    def _agree(self, trainer: Trainer) -> None:
        """Where one process wants to stop, all do."""
        stop = trainer.strategy.reduce_boolean_decision(self.decision.stop, all=False)
        if stop and not self.decision.stop:
            self._record.decision = Decision(True, "another process decided to stop", self._record.time)

    def _agree_to_go_on(self, trainer: Trainer, fit: Fit) -> bool:
        """Where the callback fails on one process, all give it up: they must keep logging the same keys."""
        if not trainer.strategy.reduce_boolean_decision(fit.error is not None, all=False):
            return True
        fit.keeper.end(self._record, INTERRUPTED)  # nobody reads the run to its end
        self._close()
        if self.strict:
            raise fit.error or NNDynError("GraphDynamicsCallback failed on another process, see its output")
        return False

    def _act(self, trainer: Trainer, epochs: int) -> None:
        # The Trainer keeps a wish that it cannot grant yet, and would grant it when it is outdated.
        if not self.decision.stop or held_back(trainer, epochs):
            return
        trainer.should_stop = trainer.should_stop or self._stops
        self._say("stop", f"{'stops' if self._stops else 'would stop'} this run: {self.decision.reason}")

    # -- output ----------------------------------------------------------------------------------------------

    def _say(self, topic: str, message: str) -> None:
        if self.verbose and self._fit is not None:
            self._fit.say(topic, message)

    def _attempt(self, trainer: Trainer, work: Callable[[Fit], None]) -> None:
        if self._fit is not None:
            self._fit.attempt(trainer, work, self.strict)

    # -- checkpoints -----------------------------------------------------------------------------------------

    @property
    def state_key(self) -> str:
        """Tells several of these callbacks apart in a checkpoint; ``action`` may change on resuming."""
        return self._generate_state_key(
            predictor=name_of(self.predictor),
            snapshots=self.snapshots,
            max_false_stop_rate=self.max_false_stop_rate,
            threshold=self.threshold,
            confidence=self.confidence,
            monitor=self.monitor,
            layers=self.layers,
        )

    def state_dict(self) -> dict[str, Any]:
        """The record of the run, so that a resumed one goes on with it."""
        return {**self._record.state_dict(), "epoch_losses": self._losses.state()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes up the record of an interrupted run; what cannot be read is reported in `on_train_start`."""
        try:
            self._record, self._unreadable = Record.from_state_dict(state_dict), None
            self._losses_before = state_dict["epoch_losses"]
        except Exception as error:
            self._unreadable = error
