"""A run as a trial of a sweep: reports its readings, lets the sweep's runs decide, ends its trial."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lightning_nndyn.callback.decision_maker import unless_blocked
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.sweep_readings import sweep_readings
from lightning_nndyn.predictor.policy import Decision
from lightning_nndyn.signature.snapshot import STATISTICS
from lightning_nndyn.sweep import (
    SweepForecast,
    SweepMember,
    SweepPredictor,
    SweepReading,
    SweepRun,
    shared_predictor,
)

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer


class TrialSession:
    """A trial in its sweep, during one run. Its methods are for the first process; all may construct it.

    Args:
        member: what its tuner does for it.
        template: settings of the predictor that learns from the sweep.
    """

    def __init__(self, member: SweepMember, template: SweepPredictor) -> None:
        self.member, self.template = member, template
        self.start()

    @classmethod
    def from_trial(
        cls, trial: Any, sweep: SweepPredictor | None, max_false_stop_rate: float, keep: float | None
    ) -> TrialSession | None:
        """The session of an Optuna trial, or of a member of another sweep; None without one.

        Raises:
            ValueError: `sweep` comes without a trial, or has another direction.
            SweepError: the trial's study has several objectives.
        """
        if trial is None:
            if sweep is not None:
                raise ValueError("sweep= learns from the runs of a sweep: give this run's trial= as well")
            return None
        member = trial if isinstance(trial, SweepMember) else _optuna_member(trial)
        if sweep is None:
            sweep = SweepPredictor(direction=member.direction, keep=keep)
        if sweep.direction != member.direction:
            raise ValueError(
                f"the trial's sweep is to {member.direction}, and sweep= has direction={sweep.direction!r}: "
                f"SweepPredictor(direction={member.direction!r})"
            )
        return cls(member, sweep.unfitted(max_false_stop_rate))

    def start(self) -> None:
        """Resets it for a run that begins or is resumed: readings in its record are reported again."""
        self.exception: BaseException | None = None  # tells the tuner that the run was stopped
        self._readings: list[SweepReading] = []
        self._decision: Decision | None = None
        self._ready = False

    # -- readings --------------------------------------------------------------------------------------------

    def decide(
        self, record: Record, before: Decision, blocked_by: str, will_stop: bool, audit_share: float
    ) -> dict[str, float]:
        """Reports what was read since the last call, and decides.

        The sweep decides once it has runs enough. Until then, and upon a run that has diverged, the decision
        of the predictor that was fitted elsewhere stays.

        Args:
            record: the run's, with that predictor's decision, which the sweep's replaces.
            before: the decision before that; one to stop stays.
            blocked_by: why the run may not be stopped yet; empty if it may.
            will_stop: whether a decision to stop is carried out.
            audit_share: the probability with which an exempt run was drawn.

        Returns:
            What is to be logged.
        """
        new = self._new_readings(record)
        forecasts = self._forecast(new, record.training.planned_epochs) if new else []
        record.decision = self._decision_for(record, before, blocked_by)
        audited = record.decision.stop and bool(record.exempt)
        weight = 1 / audit_share if audited and audit_share else 1.0
        for reading, forecast in zip(new, forecasts, strict=True):
            self.member.report(reading, _facts(record, forecast, will_stop) | {"weight": weight})
        last = forecasts[-1] if forecasts else None
        if last is None:
            return {}
        stop = float(record.decision.stop)
        return {"nndyn/p_good": last.p_good, "nndyn/predicted_value": last.value, "nndyn/stop": stop}

    def _new_readings(self, record: Record) -> list[SweepReading]:
        if not record.from_start:
            return []
        since = self._readings[-1].time if self._readings else 0.0
        sign = 1.0 if self.member.direction == "maximize" else -1.0
        return sweep_readings(record, sign, after=since)

    def _forecast(
        self, new: Sequence[SweepReading], planned_epochs: float | None
    ) -> list[SweepForecast | None]:
        runs, params = self.member.runs(), dict(self.member.params)
        lock, predictor = shared_predictor(self.member.shared, self.template)
        forecasts = []
        with lock:
            self._ready = predictor.fit(runs).decides
            for reading in new:
                self._readings.append(reading)
                run = SweepRun(params, tuple(self._readings), planned_epochs=planned_epochs)
                forecasts.append(predictor.forecast(run))
            self._decision = predictor.decide(run, forecasts[-1])
        return forecasts

    def _decision_for(self, record: Record, before: Decision, blocked_by: str) -> Decision:
        if before.stop or self._decision is None:
            return before if before.stop else record.decision
        if record.verdicts and (record.verdicts[-1].diverged or not self._ready):
            return record.decision
        found = self._decision
        if not record.history[-1].finite:
            found = Decision(True, "training has diverged: weights are not finite", record.time)
        return unless_blocked(found, blocked_by)

    # -- the end ---------------------------------------------------------------------------------------------

    def finish(self, record: Record, stopped: bool) -> None:
        """Tells the tuner how the run has ended, and keeps what is to be raised if it was stopped."""
        self.exception = self.member.finish(stopped, record.decision.reason)

    def raise_if_stopped(self, trainer: Trainer, pl_module: LightningModule, callback: Callback) -> None:
        """Raises out of ``trainer.fit`` what tells the tuner of a stopped run, once all else has ended.

        Lightning takes an exception for a failure of the run: it would skip what is still to be called, and
        tell loggers that the run has failed. So the rest of the teardown is done here first.

        Args:
            trainer: whose fit it is.
            pl_module: the model.
            callback: whose `teardown` calls this.

        Raises:
            BaseException: such as ``optuna.TrialPruned``; not where another process is to raise it.
        """
        exception, self.exception = self.exception, None
        if exception is None or _spawns_processes(trainer):
            return
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        for other in callbacks[callbacks.index(callback) + 1 :]:
            other.teardown(trainer, pl_module, stage="fit")
        pl_module.teardown("fit")
        for logger in trainer.loggers:
            _finalize(logger)
        raise exception


def _finalize(logger: Any) -> None:
    """Ends a logger's run as a success, and ignores the failure that Lightning reports next."""
    logger.finalize("success")
    with suppress(AttributeError):  # a logger with slots gets both
        logger.finalize = lambda status: logger.__dict__.pop("finalize")


def _spawns_processes(trainer: Trainer) -> bool:
    """Whether ``trainer.fit`` has spawned or forked the processes: nothing can be raised out of it then."""
    launcher = trainer.strategy.launcher
    return any(base.__name__ == "_MultiProcessingLauncher" for base in type(launcher).__mro__)


def _optuna_member(trial: Any) -> SweepMember:
    from lightning_nndyn.integrations.optuna import OptunaMember

    return OptunaMember(trial)


def _facts(record: Record, forecast: SweepForecast | None, will_stop: bool) -> dict[str, Any]:
    decision = record.decision
    last = record.history[-1]
    signature = {name: float(f"{value:.5g}") for name, value in zip(STATISTICS, last.statistics, strict=True)}
    return {
        "predicted": None if forecast is None else forecast.value,
        "p_good": None if forecast is None else forecast.p_good,
        "limit": None if forecast is None else forecast.threshold,
        "stop": decision.stop,
        "reason": decision.reason,
        "verdict": ("stop" if will_stop else "would stop") if decision.stop else "go on",
        "signature": signature if last.finite else {},
        "audit": record.exempt,
    }
