"""What is done where weights are read and where epochs end: read, judge, decide, log, stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_nndyn.callback.fit import Fit
from lightning_nndyn.callback.lightning_compat import CallbackBase
from lightning_nndyn.callback.loggers import Story, show
from lightning_nndyn.callback.losses import LossMeter
from lightning_nndyn.callback.reading import hear, read
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import INTERRUPTED, RUNNING
from lightning_nndyn.callback.trainer_state import (
    held_back,
    log,
    logged_step,
    logged_values,
    note_accuracy,
    validation_follows,
)
from lightning_nndyn.callback.trial import Place
from lightning_nndyn.errors import NNDynError
from lightning_nndyn.predictor import Predictor, Verdict
from lightning_nndyn.predictor.policy import Decision
from lightning_nndyn.signature.snapshot import Snapshot

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

_OWN_RUNS = ". Some thirty finished runs of your own make a predictor that knows them: nndyn fit --runs"


class Course(CallbackBase):
    """The course of a run: the part of the callback that no hook of Lightning's calls by itself."""

    predictor: str | Path | Predictor | None
    action: Literal["stop", "observe"]
    monitor: str | None
    snapshot_every_n_steps: int | None
    audit_share: float
    log_signature: bool
    strict: bool
    verbose: bool

    def __init__(self) -> None:
        self._place: Place | None = None
        self._raised: BaseException | None = None  # what tells the tuner that the run was stopped
        self._record = Record()
        self._losses = LossMeter()
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

    # -- readings and ends of epochs -------------------------------------------------------------------------

    def _after_reading(
        self, trainer: Trainer, pl_module: LightningModule, fit: Fit, due: Sequence[float]
    ) -> None:
        last = trainer.is_last_batch
        # What ends an epoch is judged once its validation has come.
        waits = fit.clock.ending and self.monitor is not None
        self._read(trainer, pl_module, due, waits)
        if not waits:
            self._conclude(trainer, fit, trainer.current_epoch + last, in_batch=True)
        if not last:
            self._act(trainer, trainer.current_epoch)

    def _end_stretch(self, trainer: Trainer, fit: Fit) -> None:
        """Ends what takes the place of an epoch, unless validation comes first."""
        self._losses.begin_epoch()
        fit.open = trainer.strategy.reduce_boolean_decision(validation_follows(trainer), all=True)
        if not fit.open:
            self._end_epoch(trainer, fit, trainer.current_epoch + trainer.is_last_batch, in_batch=True)

    def _end_epoch(self, trainer: Trainer, fit: Fit, epochs: int, in_batch: bool) -> None:
        """Judges an epoch of ours that has ended, with its validation if one has come.

        Args:
            trainer: whose run it is.
            fit: the parts at work.
            epochs: how many of the Trainer's have ended, that included which ends now.
            in_batch: whether the Trainer is still busy with the last batch.
        """
        fit.open = False
        self._note_gap(trainer, fit)
        self._conclude(trainer, fit, epochs, in_batch)
        if not (in_batch and trainer.is_last_batch):  # then what an epoch's end allows is done there
            self._act(trainer, epochs)
        if self._fit is not None:
            self._note_metrics(trainer, fit, fit.clock.ended)
            fit.more_to_note = True
            fit.keeper.write(self._record, RUNNING)

    def _note_gap(self, trainer: Trainer, fit: Fit) -> None:
        if self.monitor is not None and len(self._record.accuracies) < fit.clock.ended:  # no validation
            doubt = self._note_accuracy(trainer, fit, None, fit.clock.ended - 1)
            if doubt and fit.clock.misses_validation(trainer):
                fit.warn("monitor", doubt + fit.clock.hint)

    def _note_accuracy(self, trainer: Trainer, fit: Fit, logged: Any, epoch: int) -> str:
        # A sweep compares ranks, and takes any metric; predictors know accuracies.
        any_metric = fit.swept and self.predictor is None
        return note_accuracy(trainer, self._record, self.monitor or "", logged, epoch, any_metric)

    def _note_metrics(self, trainer: Trainer, fit: Fit, epochs: int) -> None:
        fit.more_to_note = False
        metrics = trainer.callback_metrics  # may be computed now, on all processes together
        if trainer.is_global_zero:
            fit.keeper.note(self._record, epochs, metrics)

    def _read(self, trainer: Trainer, pl_module: LightningModule, due: Sequence[float], waits: bool) -> None:
        """Reads the weights. When processes meet depends on the schedule, not on what one has found."""
        # Processes see other batches: all judge by the mean of their losses.
        losses = trainer.strategy.reduce(self._losses.read(trainer.strategy.root_device), reduce_op="mean")
        monitored = self.monitor is not None
        self._attempt(
            trainer,
            lambda fit: read(fit, self._record, pl_module, due, losses, waits=waits, monitored=monitored),
        )

    def _conclude(self, trainer: Trainer, fit: Fit, epochs: int, in_batch: bool) -> None:
        """Decides upon what was read, and logs it."""
        self._attempt(trainer, lambda fit: hear(fit, self._record, self.monitor is not None))
        if not self._agree_to_go_on(trainer, fit):
            return
        before, held = self.decision, held_back(trainer, epochs)
        self._attempt(trainer, partial(self._judge, held))
        if fit.swept:
            self._attempt(trainer, partial(self._hear_sweep, trainer, before, held))
            self._record.decision, fit.heard = trainer.strategy.broadcast((self.decision, fit.heard))
        self._agree(trainer)
        values = logged_values(self._record, *fit.logged, self.log_signature) | fit.heard
        fit.logged = (len(self.history), len(self.verdicts))
        if values and not trainer.barebones:
            self._attempt(trainer, lambda fit: log(trainer, values, in_batch))

    def _judge(self, held_back: str, fit: Fit) -> None:
        if fit.judge is not None:
            if fit.swept and not self.verdicts:  # the sweep does without them
                return
            fit.judge.decide(self._record, fit.clock.ended, held_back)
            if fit.judge.powerless(self._record) and not fit.swept:
                hint = "" if self.verdicts[-1].in_domain else _OWN_RUNS
                self._say("powerless", f"this run {self.decision.reason}{hint}")

    def _hear_sweep(self, trainer: Trainer, before: Decision, held_back: str, fit: Fit) -> None:
        fit.heard = {}
        if self._place is not None and trainer.is_global_zero:
            acts = self.action == "stop" and not self._record.exempt
            fit.heard = self._place.hear(self._record, before, held_back, acts, self.audit_share)

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

    @property
    def _stops(self) -> bool:
        """Whether what was decided stops this run."""
        return self.decision.stop and self.action == "stop" and not self._record.exempt

    def _show(self, trainer: Trainer, in_batch: bool = False) -> None:
        """Tells the loggers how the run was judged, once, where there is anything to tell."""
        fit, story = self._fit, Story.of(self._record, self._stops, self.monitor, self.snapshot_every_n_steps)
        if fit is None or fit.shown or fit.error is not None or not (story.told and trainer.is_global_zero):
            return
        fit.shown = True
        show(trainer.loggers, story, logged_step(trainer, in_batch))

    def _say(self, topic: str, message: str) -> None:
        if self.verbose and self._fit is not None:
            self._fit.say(topic, message)

    def _attempt(self, trainer: Trainer, work: Callable[[Fit], None]) -> None:
        if self._fit is not None:
            self._fit.attempt(trainer, work, self.strict)

    def _close(self) -> None:
        fit, self._fit = self._fit, None
        if fit is not None:
            fit.watch.close()
        for name in ("log", "log_dict"):  # the Trainer gives callbacks these methods of the model
            self.__dict__.pop(name, None)
