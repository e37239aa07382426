"""What Lightning calls, and when."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn

from lightning_nndyn.callback.judge import Judge, name_of
from lightning_nndyn.callback.namespaces import CallbackBase
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.schedule import Schedule, check_times
from lightning_nndyn.callback.watch import Watch
from lightning_nndyn.errors import NNDynError, NNDynWarning
from lightning_nndyn.policy import Decision, Policy
from lightning_nndyn.predictor import Predictor, Training, Verdict
from lightning_nndyn.signature import STATISTICS, Snapshot

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from torch import Tensor
    from torch.optim import Optimizer


@dataclass
class _Fit:
    """What lives as long as one call of ``trainer.fit``."""

    watch: Watch
    schedule: Schedule = field(default_factory=Schedule)
    judge: Judge | None = None
    visited: float = 0.0  # the last time at which a snapshot was due
    postponed: tuple[float, ...] = ()  # times that passed before the first step
    error: Exception | None = None  # what put the callback out of work on this process
    said: set[str] = field(default_factory=set)


class GraphDynamicsCallback(CallbackBase):
    """Predicts a run's final accuracy from the graph of its weights, and stops it if there is little hope.

    The layers are found by watching the first training batch. The weights are read before the first step,
    after fractions of the first epoch and after each epoch; each reading is a `Snapshot`, and a predictor
    turns the snapshots so far into a `Verdict`. ``nndyn/predicted_accuracy``, ``nndyn/p_low``, ``nndyn/stop``
    and ``nndyn/in_domain`` (0 where the prediction is not to be trusted) are logged, the same on every
    process, in time for ModelCheckpoint and EarlyStopping to monitor them.

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
        threshold: the probability of low accuracy above which a run is stopped; None derives it from
            ``max_false_stop_rate``.
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
        ValueError: if ``action`` is unknown, or a time in ``snapshots`` is neither fraction nor whole.
        PredictorError: if ``max_false_stop_rate`` or ``threshold`` is out of its range.
    """

    def __init__(
        self,
        predictor: str | Path | Predictor | None = "lenet5-digits",
        action: Literal["stop", "observe"] = "stop",
        snapshots: Sequence[float] | None = None,
        max_false_stop_rate: float = 0.05,
        threshold: float | None = None,
        log_signature: bool = False,
        layers: list[str] | None = None,
        strict: bool = False,
        verbose: bool = True,
    ) -> None:
        if action not in ("stop", "observe"):
            raise ValueError(f"action={action!r} is unknown: take 'stop' or 'observe'")
        Policy((), max_false_stop_rate, threshold)  # checks the two
        self.predictor = predictor
        self.action = action
        self.snapshots = check_times(snapshots)
        self.max_false_stop_rate = max_false_stop_rate
        self.threshold = threshold
        self.log_signature = log_signature
        self.layers = layers
        self.strict = strict
        self.verbose = verbose
        self._record = Record()
        self._unreadable: Exception | None = None  # why a checkpoint's record could not be loaded
        self._fit: _Fit | None = None

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
            self._fit = _Fit(Watch(self.layers))
            self._attempt(trainer, self._load)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fixes when snapshots are due; a resumed run that was to be stopped stays stopped."""
        if self._fit is None:
            return
        # All processes keep to one schedule, or they would wait for each other at different batches.
        batches = trainer.strategy.broadcast(trainer.num_training_batches)
        self._fit.schedule = Schedule.of(self.snapshots, batches)
        self._attempt(trainer, partial(self._begin, trainer))
        self._agree(trainer)
        self._act(trainer, trainer.current_epoch)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Removes the hooks: Lightning calls no `teardown` after an exception."""
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of the model."""
        self._close()

    def _load(self, fit: _Fit) -> None:
        if self.predictor is not None:
            fit.judge = Judge.of(self.predictor, self.max_false_stop_rate, self.threshold)

    def _begin(self, trainer: Trainer, fit: _Fit) -> None:
        if self._unreadable is not None:
            raise self._unreadable
        if fit.judge is not None:
            fit.judge.training = _training(trainer)
        fit.watch.start_due = trainer.global_step == 0
        if fit.watch.start_due:  # what an earlier fit has left is not this run's record
            self._record = Record()
        elif not self._record.from_start:
            fit.judge = None
            _warn(
                f"training goes on from step {trainer.global_step}, and there is no record of its beginning: "
                "the weights are read, nothing is predicted or stopped"
            )
        if fit.schedule.impossible:
            times = ", ".join(f"{time:g}" for time in fit.schedule.impossible)
            _warn(
                "the training data loader has no length, so the weights cannot be read after fractions of "
                f"the first epoch ({times}), only at its end: Trainer(limit_train_batches=...) gives it one"
            )

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

    def _forward_done(self, pl_module: LightningModule, fit: _Fit) -> None:
        manual = not pl_module.automatic_optimization
        fit.watch.forward_done(nested=manual)
        if manual:  # the next step may be one that Lightning does not see
            self._read_start(fit)

    def _read_start(self, fit: _Fit) -> None:
        snapshot = fit.watch.read(0.0) if fit.watch.start_due else None
        if snapshot is not None:
            self.history.append(snapshot)

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
        epoch, last = trainer.current_epoch, trainer.is_last_batch
        due = fit.schedule.after_batch(epoch, batch_idx + 1, last)
        if due:
            self._visit(trainer, pl_module, fit, due, epoch + last)
            if not last:
                self._act(trainer, epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decides what the epoch's end allows, such as what `min_epochs` has held back."""
        fit = self._fit
        if fit is None:
            return
        if fit.watch.tracing:  # the model skipped the rest of the epoch from its `on_train_batch_start`
            self._attempt(trainer, lambda fit: fit.watch.end_batch(pl_module))
        epochs = trainer.current_epoch + 1
        due = fit.schedule.after_epoch(trainer.current_epoch)
        if due and fit.visited < due[-1] and not _broken_off(trainer):
            # The model has cut the epoch short, or the run is resumed between the last batch and here.
            self._visit(trainer, pl_module, fit, due, epochs, in_batch=False)
        else:
            self._decide(trainer, epochs)
        self._act(trainer, epochs)

    def _visit(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        fit: _Fit,
        due: Sequence[float],
        epochs: int,
        in_batch: bool = True,
    ) -> None:
        """Reads, judges and logs. When processes meet depends on the schedule, not on what one has found."""
        before = (len(self.history), len(self.verdicts))
        fit.visited = due[-1]
        self._attempt(trainer, partial(self._read, pl_module, due))
        if not self._agree_to_go_on(trainer, fit):
            return
        self._decide(trainer, epochs)
        values = self._values(*before)
        if values and not trainer.barebones:
            self._attempt(trainer, lambda fit: _log(trainer, pl_module, values, in_batch))

    def _read(self, pl_module: LightningModule, due: Sequence[float], fit: _Fit) -> None:
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
            self.history.append(snapshot)
            if fit.judge is not None:
                fit.judge.hear(self._record)

    def _decide(self, trainer: Trainer, epochs: int) -> None:
        self._attempt(trainer, partial(self._judge, _held_back(trainer, epochs), epochs))
        self._agree(trainer)

    def _judge(self, held_back: str, epochs: int, fit: _Fit) -> None:
        if fit.judge is not None:
            fit.judge.decide(self._record, epochs, held_back)
            if fit.judge.powerless(self._record):
                self._say("powerless", f"this run {self.decision.reason}")

    def _agree(self, trainer: Trainer) -> None:
        """Where one process wants to stop, all do."""
        stop = trainer.strategy.reduce_boolean_decision(self.decision.stop, all=False)
        if stop and not self.decision.stop:
            self._record.decision = Decision(True, "another process decided to stop", self._record.time)

    def _agree_to_go_on(self, trainer: Trainer, fit: _Fit) -> bool:
        """Where the callback fails on one process, all give it up: they must keep logging the same keys."""
        if not trainer.strategy.reduce_boolean_decision(fit.error is not None, all=False):
            return True
        self._close()
        if self.strict:
            raise fit.error or NNDynError("GraphDynamicsCallback failed on another process, see its output")
        return False

    def _act(self, trainer: Trainer, epochs: int) -> None:
        # The Trainer keeps a wish that it cannot grant yet, and would grant it when it is outdated.
        if not self.decision.stop or _held_back(trainer, epochs):
            return
        stops = self.action == "stop"
        trainer.should_stop = trainer.should_stop or stops
        self._say("stop", f"{'stops' if stops else 'would stop'} this run: {self.decision.reason}")

    # -- output ----------------------------------------------------------------------------------------------

    def _values(self, snapshots: int, verdicts: int) -> dict[str, float]:
        """What to log, now that there were so many snapshots and verdicts before."""
        values: dict[str, float] = {}
        if len(self.verdicts) > verdicts:
            values["nndyn/predicted_accuracy"] = self.verdicts[-1].predicted_accuracy
            values["nndyn/p_low"] = self.verdicts[-1].p_low
            values["nndyn/stop"] = float(self.decision.stop)
            values["nndyn/in_domain"] = float(self.verdicts[-1].in_domain)
        if len(self.history) > snapshots and self.log_signature:
            statistics = zip(STATISTICS, self.history[-1].statistics, strict=True)
            values |= {f"nndyn/{name}": value for name, value in statistics}
        return values

    def _say(self, topic: str, message: str) -> None:
        fit = self._fit
        if self.verbose and fit is not None and topic not in fit.said:
            fit.said.add(topic)
            rank_zero_info(f"GraphDynamicsCallback: {message}")

    # -- failures --------------------------------------------------------------------------------------------

    def _attempt(self, trainer: Trainer, work: Callable[[_Fit], None]) -> None:
        """Does a piece of our own work, unless one has failed; a failure must not harm the training."""
        fit = self._fit
        if fit is None or fit.error is not None:
            return
        try:
            work(fit)
        except Exception as error:
            fit.error = error
            fit.watch.close()
            if self.strict and trainer.world_size > 1:
                return  # raised where processes meet next, on all of them: none is left waiting
            if self.strict:
                raise
            where = f" on process {trainer.global_rank}" if trainer.world_size > 1 else ""
            warnings.warn(
                f"GraphDynamicsCallback gives up{where} and training goes on without it: "
                f"{type(error).__name__}: {error} (strict=True raises instead)",
                NNDynWarning,
                stacklevel=2,
            )

    # -- checkpoints -----------------------------------------------------------------------------------------

    @property
    def state_key(self) -> str:
        """Tells several of these callbacks apart in a checkpoint; ``action`` may change on resuming."""
        return self._generate_state_key(
            predictor=name_of(self.predictor),
            snapshots=self.snapshots,
            max_false_stop_rate=self.max_false_stop_rate,
            threshold=self.threshold,
            layers=self.layers,
        )

    def state_dict(self) -> dict[str, Any]:
        """The record of the run, so that a resumed one goes on with it."""
        return self._record.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes up the record of an interrupted run; what cannot be read is reported in `on_train_start`."""
        try:
            self._record, self._unreadable = Record.from_state_dict(state_dict), None
        except Exception as error:
            self._unreadable = error


def _training(trainer: Trainer) -> Training:
    optimizers = {type(optimizer).__name__.lower() for optimizer in trainer.optimizers}
    return Training(_steps_per_epoch(trainer), " and ".join(sorted(optimizers)) or None)


def _steps_per_epoch(trainer: Trainer) -> float | None:
    """Optimizer steps in an epoch; None where it has no length, or the model makes the steps itself."""
    batches = trainer.num_training_batches
    if not math.isfinite(batches) or not trainer.lightning_module.automatic_optimization:
        return None
    return math.ceil(batches / trainer.accumulate_grad_batches)


def _held_back(trainer: Trainer, epochs: int) -> str:
    """Why a run of so many finished epochs may not be stopped yet; empty if it may."""
    if epochs < (trainer.min_epochs or 0):
        return f"min_epochs={trainer.min_epochs} is not reached"
    if trainer.global_step < (trainer.min_steps or 0):
        return f"min_steps={trainer.min_steps} is not reached"
    return ""


def _broken_off(trainer: Trainer) -> bool:
    """Whether the Trainer has ended the run before the epoch's last batch."""
    stopped = trainer.should_stop or (0 <= trainer.max_steps <= trainer.global_step)
    return stopped and not trainer.is_last_batch


def _log(trainer: Trainer, pl_module: LightningModule, values: Mapping[str, float], in_batch: bool) -> None:
    # `self.log` is for callbacks that monitor, and early enough for those that look after validation. To
    # loggers it would skip snapshots between two multiples of `log_every_n_steps`, and repeat old ones at the
    # multiples. Outside of a batch only epoch values may be logged: their maximum is what each process has.
    pl_module.log_dict(
        dict(values),
        on_step=in_batch,
        on_epoch=not in_batch,
        logger=False,
        batch_size=1,
        reduce_fx="max",
        sync_dist=not in_batch,
    )
    # The x axis of all that Lightning logs; it counts a batch once its hooks have run.
    step = trainer.fit_loop.epoch_loop._batches_that_stepped - (not in_batch)
    for logger in trainer.loggers:
        logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=step)
        logger.save()


def _warn(message: str) -> None:
    rank_zero_warn(f"GraphDynamicsCallback: {message}", category=NNDynWarning)
