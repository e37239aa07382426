"""A run's place in a sweep: notes what is read of it, lets the sweep's runs judge it, ends its trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lightning_nndyn.callback.record import Record
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

AUDIT_SHARE = 0.05
"""Of the condemned runs of a sweep those that finish nevertheless, unless another share is asked for."""


class Place:
    """A run's place in its sweep. All but the making of it is for the first process.

    Args:
        member: what its tuner does for it.
        settings: those of the predictor that learns from the sweep.
    """

    def __init__(self, member: SweepMember, settings: SweepPredictor) -> None:
        self.member, self._settings = member, settings
        self.begin()

    @classmethod
    def of(cls, trial: Any, sweep: SweepPredictor | None, max_false_stop_rate: float) -> Place | None:
        """The place of a trial of Optuna's, or of a member of another sweep; None without one.

        Raises:
            ValueError: `sweep` comes without a trial, or strives for the other direction.
            SweepError: the trial's study has several objectives.
        """
        if trial is None:
            if sweep is not None:
                raise ValueError("sweep= learns from the runs of a sweep: give this run's trial= as well")
            return None
        member = trial if isinstance(trial, SweepMember) else _optuna_member(trial)
        if sweep is None:
            sweep = SweepPredictor(direction=member.direction)
        if sweep.direction != member.direction:
            raise ValueError(
                f"the trial's sweep is to {member.direction}, and sweep= has direction={sweep.direction!r}: "
                f"SweepPredictor(direction={member.direction!r})"
            )
        return cls(member, sweep.unfitted(max_false_stop_rate))

    def begin(self) -> None:
        """Begins, or goes on with, a run: what its record holds is noted again."""
        self._readings: list[SweepReading] = []
        self._decision: Decision | None = None
        self._ready = False

    # -- readings --------------------------------------------------------------------------------------------

    def hear(
        self, record: Record, before: Decision, held_back: str, acts: bool, audit_share: float
    ) -> dict[str, float]:
        """Notes what was read since the last time, and decides. The sweep decides once it is able to.

        Until then, and upon a run that has diverged, the predictor that was fitted elsewhere does.

        Args:
            record: the run's, with that predictor's decision, where the sweep's is put.
            before: the decision before that; one to stop stays.
            held_back: why the run may not be stopped yet; empty if it may.
            acts: whether the run would be stopped.
            audit_share: the probability with which it was drawn, if it was, to be let finish.

        Returns:
            What is to be logged.
        """
        new = self._new_readings(record)
        forecasts = self._ask(new) if new else []
        record.decision = self._decided(record, before, held_back)
        spared = record.decision.stop and bool(record.exempt)
        weight = 1 / audit_share if spared and audit_share else 1.0
        for reading, forecast in zip(new, forecasts, strict=True):
            self.member.report(reading, _facts(record, forecast, acts) | {"weight": weight})
        said = forecasts[-1] if forecasts else None
        if said is None:
            return {}
        stop = float(record.decision.stop)
        return {"nndyn/p_good": said.p_good, "nndyn/predicted_value": said.value, "nndyn/stop": stop}

    def _new_readings(self, record: Record) -> list[SweepReading]:
        if not record.from_start:
            return []
        since = self._readings[-1].time if self._readings else 0.0
        # Larger is better in a curve, as in what the predictor is to tell.
        sign = 1.0 if self.member.direction == "maximize" else -1.0
        values = [sign * value for value in record.accuracies]
        # Any metric may be here, of which no value is known before training.
        curve = record.curve_of(values, start=next(filter(math.isfinite, values), math.nan))
        known = {verdict.epoch: verdict.relative_accuracy for verdict in record.verdicts}
        return [
            SweepReading.of(record.history[: place + 1], curve, known.get(snapshot.epoch))
            for place, snapshot in enumerate(record.history)
            if snapshot.epoch > since
        ]

    def _ask(self, new: Sequence[SweepReading]) -> list[SweepForecast | None]:
        runs, params = self.member.runs(), dict(self.member.params)
        lock, predictor = shared_predictor(self.member.shared, self._settings)
        forecasts = []
        with lock:
            self._ready = predictor.fit(runs).ready
            for reading in new:
                self._readings.append(reading)
                run = SweepRun(params, tuple(self._readings))
                forecasts.append(predictor.forecast(run))
            self._decision = predictor.decide(run, forecasts[-1])
        return forecasts

    def _decided(self, record: Record, before: Decision, held_back: str) -> Decision:
        if before.stop or self._decision is None:
            return before if before.stop else record.decision
        if record.verdicts and (record.verdicts[-1].diverged or not self._ready):
            return record.decision
        found = self._decision
        if not record.history[-1].finite:
            found = Decision(True, "training has diverged: weights are not finite", record.time)
        if found.stop and held_back:
            return replace(found, stop=False, reason=f"{held_back}; otherwise: {found.reason}")
        return found

    # -- ends ------------------------------------------------------------------------------------------------

    def end(self, record: Record, stopped: bool) -> BaseException | None:
        """Notes how the run has ended; what is to be raised where it was stopped."""
        return self.member.finish(stopped, record.decision.reason)


def check_share(share: float | None, monitor: str | None, sweeping: bool) -> None:
    """Refuses an audit share that is none, or whose audits nobody would hear of.

    Raises:
        ValueError: it is out of its range, or there is neither a metric nor a sweep.
    """
    if share is not None and (not 0 <= share < 1 or (share and monitor is None and not sweeping)):
        raise ValueError(
            f"audit_share={share} with monitor={monitor!r}: give a share in [0, 1) such as 0.05, "
            "and the metric that tells how the audited runs end (or a trial, whose sweep knows)"
        )


def leave(trainer: Trainer, pl_module: LightningModule, callback: Callback, raised: BaseException) -> None:
    """Raises out of ``trainer.fit`` what tells the tuner of a stopped run, once all else has come to its end.

    Lightning takes the exception for a failure of the run: it would call none of what still has to be called,
    and tell loggers that the run has failed.

    Raises:
        BaseException: `raised`, but not where another process is to raise it.
    """
    if _launched_from_here(trainer):
        return
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    for other in callbacks[callbacks.index(callback) + 1 :]:
        other.teardown(trainer, pl_module, stage="fit")
    pl_module.teardown("fit")
    for logger in trainer.loggers:
        _finalize(logger)
    raise raised


def _finalize(logger: Any) -> None:
    logger.finalize("success")
    with suppress(AttributeError):  # one with slots is told twice
        logger.finalize = lambda status: logger.__dict__.pop("finalize")


def _launched_from_here(trainer: Trainer) -> bool:
    """Whether ``trainer.fit`` has spawned or forked the processes: nothing can be raised out of it then."""
    launcher = trainer.strategy.launcher
    return any(base.__name__ == "_MultiProcessingLauncher" for base in type(launcher).__mro__)


def _optuna_member(trial: Any) -> SweepMember:
    from lightning_nndyn.integrations.optuna import OptunaMember

    return OptunaMember(trial)


def _facts(record: Record, forecast: SweepForecast | None, acts: bool) -> dict[str, Any]:
    decision = record.decision
    last = record.history[-1]
    signature = {name: float(f"{value:.5g}") for name, value in zip(STATISTICS, last.statistics, strict=True)}
    return {
        "predicted": None if forecast is None else forecast.value,
        "p_good": None if forecast is None else forecast.p_good,
        "limit": None if forecast is None else forecast.threshold,
        "stop": decision.stop,
        "reason": decision.reason,
        "verdict": ("stop" if acts else "would stop") if decision.stop else "go on",
        "signature": signature if last.finite else {},
        "audit": record.exempt,
    }
