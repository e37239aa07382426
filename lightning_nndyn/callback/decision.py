"""Predicts from the record of one run, and decides whether to stop it: alike on all processes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nndyn.callback.audit import draw_audit, exemption_reason
from lightning_nndyn.callback.decision_maker import DecisionMaker, unless_blocked
from lightning_nndyn.callback.guard import Guard
from lightning_nndyn.callback.messages import OWN_RUNS, Messages
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.settings import Settings
from lightning_nndyn.callback.task import RunTask
from lightning_nndyn.callback.trainer_state import stop_blocked_by
from lightning_nndyn.predictor import Predictor
from lightning_nndyn.predictor.no_progress import no_progress
from lightning_nndyn.predictor.policy import Decision
from lightning_nndyn.sweep import reaches_rung

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from lightning_nndyn.callback.earlier_runs import EarlierRuns
    from lightning_nndyn.callback.trial import TrialSession


class RunDecider:
    """Decides on one run, by its predictor or by its sweep's other runs, and alike on all processes.

    Args:
        settings: the callback's arguments.
        trial: the run's trial in a sweep; None without one.
        messages: to the user.
        guard: takes the steps that may fail.

    Attributes:
        maker: of decisions by the predictor; None without one.
        task: whether the predictor may speak of this run.
        in_sweep: whether the trial's sweep can be reached.
        earlier: the runs that the log folder has records of; None where this run is not compared with them.
        withdrawn: whether the run is judged no more.
        sweep_values: what the sweep has predicted last, to be logged.
    """

    def __init__(
        self, settings: Settings, trial: TrialSession | None, messages: Messages, guard: Guard
    ) -> None:
        self.maker: DecisionMaker | None = None
        self.in_sweep = self.withdrawn = False
        self.sweep_values: dict[str, float] = {}
        self.task = RunTask(settings, None if trial is None else trial.member.direction)
        self._settings, self._trial = settings, trial
        self._messages, self._guard = messages, guard
        self._asked_at = 0.0  # time of the latest snapshot that a verdict was asked for
        self.earlier: EarlierRuns | None = None
        self._comparison: Decision | None = None  # with the earlier runs, at its latest rung

    def load_predictor(self) -> None:
        """Loads the predictor.

        Raises:
            PredictorError: if it cannot be loaded, or is not fitted.
        """
        of = self._settings
        if of.predictor is not None:
            rate = of.max_false_stop_rate
            alone = self._trial is None and of.monitor is not None  # a sweep's runs tell more than a curve
            self.maker = DecisionMaker.load(
                of.predictor, rate, of.threshold, of.confidence, reads_curve=alone
            )

    def resume(self, record: Record) -> None:
        """Goes on with a record, whose last snapshot may still wait for its epoch's validation."""
        predicted = record.verdicts[-1].epoch if record.verdicts else -1.0
        waits = bool(record.losses) and predicted < record.time
        self._asked_at = 0.0 if waits else max(0.0, record.time)

    def open(self, trainer: Trainer, record: Record, begins: bool) -> None:
        """Settles whether the run is exempt from being stopped, and whether its sweep can be reached.

        All processes must call this, and come to the same.

        Args:
            trainer: whose run it is.
            record: the run's.
            begins: whether the run begins here: one that is resumed stays what it was.
        """
        trial = self._trial
        if begins and trainer.is_global_zero:
            self._guard.attempt(trainer, self._draw_audit, trainer, record)
        in_sweep = trial is not None and trial.member.reachable and self._guard.error is None
        record.run, record.exempt, self.in_sweep = trainer.strategy.broadcast(
            (record.run, record.exempt, in_sweep)
        )
        if trial is not None:
            trial.start()

    def _draw_audit(self, trainer: Trainer, record: Record) -> None:
        of, maker = self._settings, self.maker
        if not of.audit_share or of.action != "stop":
            return
        if self._trial is not None:
            record.exempt = draw_audit(of.audit_share)
        elif maker is not None:
            low = maker.predictor.low_threshold, maker.predictor.low_share
            folder = Path(trainer.default_root_dir)
            record.exempt = exemption_reason(folder, of.audit_share, of.max_false_stop_rate, *low)

    @property
    def compares_at_once(self) -> bool:
        """Whether the sweep compares its runs from the third one on, and waits for none to finish."""
        return self._trial is not None and self._trial.template.keep is not None

    @property
    def facts(self) -> dict[str, Any]:
        """What decisions rest on; empty without a predictor."""
        return {} if self.maker is None else self.maker.facts

    def will_stop(self, record: Record) -> bool:
        """Whether the decision so far stops the run, as soon as the Trainer allows it."""
        return record.decision.stop and self._may_stop(record)

    def _may_stop(self, record: Record) -> bool:
        return self._settings.action == "stop" and not record.exempt

    # -- from a snapshot to a stop ---------------------------------------------------------------------------

    def verdict_due(self, record: Record) -> bool:
        """Whether no verdict was asked for upon the latest snapshot."""
        return record.time > self._asked_at

    def predict(self, record: Record, epochs: int) -> None:
        """Asks for a verdict upon the latest snapshot, unless that is done.

        The last verdict is renewed as soon as the run has seen more than was predicted, be there a snapshot
        or not.

        Args:
            record: the run's, where the verdict is put.
            epochs: that have ended.
        """
        due, self._asked_at = self.verdict_due(record), record.time
        if due and self.maker is not None and self.task.has_accuracy and not record.has_not_moved:
            monitored = self.task.reads_metric
            self._messages.warn("inputs", self.maker.choose_inputs(record, monitored))
            self.maker.predict(record)
        if self.maker is not None:
            self.maker.renew(record, epochs)

    def withdraw(self, record: Record, why: str) -> None:
        """Judges the run no more, if there is a reason for it; a decision to stop stays."""
        if not why:
            return
        self._messages.warn("withdrawn", why)
        self.maker, self.sweep_values, self.withdrawn = None, {}, True
        if not record.decision.stop:
            record.decision = Decision(False, why, max(0.0, record.time))

    def decide(self, trainer: Trainer, record: Record, epochs: int, trainer_epochs: int) -> None:
        """Decides upon the latest verdict. All processes must call this.

        Args:
            trainer: whose run it is.
            record: the run's, where the decision is put.
            epochs: that have ended, as the session counts them.
            trainer_epochs: that have ended, as the Trainer counts them for its `min_epochs`.
        """
        before, blocked_by = record.decision, stop_blocked_by(trainer, trainer_epochs)
        self._guard.attempt(trainer, self._decide, record, epochs, blocked_by)
        if self.in_sweep:
            judged = not (self.withdrawn or record.has_not_moved)
            if self._trial is not None and trainer.is_global_zero and judged:
                self._guard.attempt(trainer, self._decide_in_sweep, self._trial, record, before, blocked_by)
            decided = (record.decision, self.sweep_values)
            record.decision, self.sweep_values = trainer.strategy.broadcast(decided)
        elif self.earlier is not None:
            self._compare(trainer, self.earlier, record, blocked_by)
        self.agree(trainer, record)

    def _decide(self, record: Record, epochs: int, blocked_by: str) -> None:
        maker = self.maker
        if maker is None or (self.in_sweep and not record.verdicts):  # the sweep does without them
            return
        if record.decision.stop:
            return
        if self.task.has_accuracy:
            maker.decide(record, epochs, blocked_by)
        elif record.history:
            record.decision = unless_blocked(self._without_prediction(record), blocked_by)
        self._decide_by_progress(record, epochs, blocked_by)
        if maker.cannot_stop(record) and not self.in_sweep:
            unlike = record.verdicts[-1].note
            if not (unlike and self._messages.have_said(unlike)):  # at the start
                reason = f"{record.decision.reason}; {OWN_RUNS}" if unlike else record.decision.reason
                self._messages.info("cannot stop", f"this run {reason}")

    def _without_prediction(self, record: Record) -> Decision:
        """The decision on a run that has no accuracy, or none that is known."""
        if not record.history[-1].finite:
            return Decision(True, "training has diverged: weights are not finite", record.time)
        return Decision(False, f"goes on: {self.task.why_silent}", max(0.0, record.time))

    def _decide_by_progress(self, record: Record, epochs: int, blocked_by: str) -> None:
        """Stops a run whose metric has got nowhere in half of its plan, whatever was predicted."""
        metric, last = self.task.metric, record.decision
        if last.stop or self.in_sweep or metric is None or metric.mode is None:
            return
        why = no_progress(
            record.accuracies[:epochs],
            record.losses,
            record.training.planned_epochs,
            name=metric.name,
            mode=metric.mode,
            classes=record.classes if metric.is_accuracy else None,
        )
        if why:
            time = max(record.time, float(epochs))  # of the metric, where no weights were read since
            record.decision = unless_blocked(Decision(True, why, time), blocked_by)

    def _compare(self, trainer: Trainer, earlier: EarlierRuns, record: Record, blocked_by: str) -> None:
        """Compares the run with earlier ones once at each rung. All processes must call this."""
        new = self._comparison is None or record.time > self._comparison.epoch
        if new and reaches_rung([snapshot.epoch for snapshot in record.history]):
            self._comparison = None
            if trainer.is_global_zero and not (self.withdrawn or record.has_not_moved):
                self._guard.attempt(trainer, self._compare_with, earlier, record)
            self._comparison = trainer.strategy.broadcast(self._comparison)
        found = self._comparison
        if found is not None and found.stop and not record.decision.stop:
            record.decision = unless_blocked(found, blocked_by)

    def _compare_with(self, earlier: EarlierRuns, record: Record) -> None:
        self._comparison, count = earlier.decide(record)
        if count + 1 >= earlier.rule.fewest:
            text = f"compares this run with {count} earlier ones of its kind under {earlier.folder}"
            self._messages.info("earlier", f"{text} (earlier_runs=False does not)")

    def _decide_in_sweep(
        self, trial: TrialSession, record: Record, before: Decision, blocked_by: str
    ) -> None:
        self.sweep_values = {}
        share = self._settings.audit_share
        self.sweep_values = trial.decide(record, before, blocked_by, self._may_stop(record), share)

    def agree(self, trainer: Trainer, record: Record) -> None:
        """Makes all processes stop where one of them wants to. All must call this."""
        stop = trainer.strategy.reduce_boolean_decision(record.decision.stop, all=False)
        if stop and not record.decision.stop:
            record.decision = Decision(True, "another process decided to stop", record.time)

    def stop_if_decided(self, trainer: Trainer, record: Record, trainer_epochs: int) -> None:
        """Tells the Trainer to stop, if that is decided and it may."""
        # The Trainer keeps a wish that it cannot grant yet, and would grant it when it is outdated.
        if not record.decision.stop or stop_blocked_by(trainer, trainer_epochs):
            return
        will_stop = self.will_stop(record)
        trainer.should_stop = trainer.should_stop or will_stop
        does = "stops" if will_stop else "would stop"
        self._messages.info("stop", f"{does} this run: {record.decision.reason}")

    def finish_trial(self, trainer: Trainer, record: Record, stopped: bool) -> None:
        """Tells the tuner of a run in a sweep how it has ended. All processes must call this."""
        trial = self._trial
        if not self.in_sweep:
            return
        if trial is not None and trainer.is_global_zero:
            self._guard.attempt(trainer, trial.finish, record, stopped)
        exception = trainer.strategy.broadcast(None if trial is None else trial.exception)
        if trial is not None:  # each process that was given a trial raises it
            trial.exception = exception


def predictor_name(predictor: str | Path | Predictor | None) -> str | None:
    """Names a predictor in checkpoints and records: the same in any process and for an equal predictor."""
    if not isinstance(predictor, Predictor):
        return None if predictor is None else str(predictor)
    facts = {key: value for key, value in predictor.card.items() if key not in ("sha256", "size", "versions")}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{predictor.card.get('corpus')} {digest[:12]}"
