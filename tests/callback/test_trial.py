"""One run in a sweep: its member decides, notes, and brings it to its end."""

from __future__ import annotations

import copy
import json
import pickle
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from callback_runs import BATCHES, Digits, Scripted, trainer
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from sweep_runs import Perceptron, joined

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.callback.trial import TrialSession
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES
from lightning_nndyn.sweep import Reading, SweepMember, SweepPredictor, SweepRun

optuna = pytest.importorskip("optuna")

from optuna_studies import journal, study  # noqa: E402

from lightning_nndyn.integrations.optuna_storage import EndedTrials, decode_readings  # noqa: E402

TIMES = [*DEFAULT_TIMES, 1.0, 2.0, 3.0]


class Told(SweepMember):
    """A sweep of one's own tuner, in which runs with large learning rates end well."""

    def __init__(self, lr: float, runs: int = 30, direction: Any = "maximize") -> None:
        self.direction, self.params = direction, {"lr": lr}
        self._lrs = np.logspace(-7, 0, runs)
        self.notes: list[tuple[float, dict[str, Any]]] = []
        self.ends: list[tuple[bool, str]] = []

    def runs(self) -> list[SweepRun]:
        return [SweepRun({"lr": float(lr)}, (), float(np.log10(lr))) for lr in self._lrs]

    def report(self, reading: Reading, facts: Any) -> None:
        assert json.loads(json.dumps(facts)) == facts
        self.notes.append((reading.time, dict(facts)))

    def finish(self, stopped: bool, reason: str) -> BaseException | None:
        self.ends.append((stopped, reason))
        return Ended(reason) if stopped else None


class Ended(Exception):
    pass


def fit(member: Any, *more: Any, predictor: Any = None, lr: float = 0.05, ckpt: Any = None, **settings: Any):
    """A run under a member: the trainer, the callback, and what was raised."""
    kinds = ("max_epochs", "min_epochs", "logger", "strategy", "devices")
    own = {name: settings.pop(name) for name in kinds if name in settings}
    callback, error = joined(member, predictor, **settings), None
    run = trainer(callback, *more, **{"max_epochs": 2, **own})
    run.model_of_test = Perceptron(lr)
    try:
        run.fit(run.model_of_test, ckpt_path=ckpt)
    except Ended as raised:
        error = raised
    return run, callback, error


def test_a_member_of_another_tuner_is_stopped_by_its_sweep() -> None:
    member = Told(1e-7)
    run, callback, error = fit(member)
    assert isinstance(error, Ended) and str(error) == callback.decision.reason
    assert run.global_step == 2  # a sixteenth of 23 batches
    ((time, facts),) = member.notes
    assert (
        time == 0.0625 and facts["verdict"] == "stop" and facts["stop"] and facts["p_good"] < facts["limit"]
    )
    assert member.ends == [(True, callback.decision.reason)]
    logged = run.callback_metrics
    assert float(logged["nndyn/p_good"]) == pytest.approx(facts["p_good"])
    assert float(logged["nndyn/predicted_value"]) == pytest.approx(facts["predicted"])
    assert float(logged["nndyn/stop"]) == 1


def test_a_good_run_goes_on_and_raises_nothing() -> None:
    member = Told(1.0)
    run, callback, error = fit(member)
    assert error is None and run.current_epoch == 2 and member.ends == [(False, callback.decision.reason)]
    assert [time for time, _ in member.notes] == TIMES[:-1]


def test_observing_notes_what_would_have_been_done() -> None:
    member = Told(1e-7)
    run, callback, error = fit(member, action="observe")
    assert error is None and run.current_epoch == 2 and callback.decision.stop
    assert {facts["verdict"] for _, facts in member.notes} == {"would stop"}
    assert member.ends == [(False, callback.decision.reason)]


def test_an_audited_run_finishes_and_its_trial_knows() -> None:
    member = Told(1e-7)
    run, _, error = fit(member, audit_share=0.999_999_999, monitor=None)
    assert error is None and run.current_epoch == 2 and member.ends[0][0] is False
    assert all("as an audit" in facts["audit"] for _, facts in member.notes)
    assert {round(facts["weight"], 6) for _, facts in member.notes} == {1.0}  # nearly all are let finish


@pytest.mark.parametrize("lr", [1e-7, 1.0])
def test_an_audited_run_stands_for_others_if_it_was_condemned(
    lr: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_nndyn.callback.decision.draw_audit", lambda share: f"drawn ({share})")
    study = optuna.create_study(direction="maximize")
    space = {"lr": optuna.distributions.FloatDistribution(1e-8, 10, log=True)}
    for known in np.logspace(-7, 0, 30):
        value = float(np.log10(known))
        study.add_trial(optuna.trial.create_trial(params={"lr": known}, distributions=space, value=value))
    study.enqueue_trial({"lr": lr})
    trial = study.ask(space)
    _, _, error = fit(trial, audit_share=0.25, monitor=None)
    study.tell(trial, 0.5)
    assert error is None
    assert study.trials[-1].user_attrs.get("nndyn:weight") == (4.0 if lr < 1 else None)
    ended = EndedTrials(lambda one: decode_readings(one.user_attrs)).runs(study)
    assert [run.weight for run in ended] == [1.0] * 30 + [4.0 if lr < 1 else 1.0]


def test_the_audit_share_is_5_percent_where_a_sweep_keeps_good_runs_and_needs_no_monitor() -> None:
    assert GraphDynamicsCallback(None, trial=Told(1.0), keep=None).audit_share == 0.05
    assert GraphDynamicsCallback(None, trial=Told(1.0), sweep=SweepPredictor()).audit_share == 0.05
    assert GraphDynamicsCallback(None, trial=Told(1.0), sweep=SweepPredictor(keep=0.1)).audit_share == 0
    assert GraphDynamicsCallback(None, trial=Told(1.0)).audit_share == 0  # nothing is promised
    assert GraphDynamicsCallback(None).audit_share == 0
    assert GraphDynamicsCallback(None, trial=Told(1.0), audit_share=0.0).audit_share == 0


def test_min_epochs_holds_the_sweep_back() -> None:
    member = Told(1e-7)
    run, _, error = fit(member, min_epochs=1)
    assert isinstance(error, Ended) and run.current_epoch == 1 and run.global_step == 23
    assert "min_epochs=1 is not reached; otherwise: predicted" in member.notes[0][1]["reason"]


def test_a_stop_that_comes_with_the_last_batch_is_none() -> None:
    member = Told(1e-7)
    _, callback, error = fit(member, snapshots=[1.0], max_epochs=1)
    assert error is None and callback.decision.stop and member.ends[0][0] is False


def test_until_the_sweep_knows_enough_the_predictor_decides_and_then_no_more() -> None:
    condemning, learning = Scripted({0.25: 1.0}), Told(1e-3, runs=9)
    for member, stopped in ((learning, True), (Told(1.0), False)):
        callback = joined(member, condemning, threshold=0.5, monitor="val_accuracy")
        run = trainer(callback, max_epochs=1)
        if stopped:
            with pytest.raises(Ended, match="predicted final accuracy 0"):
                run.fit(Digits(validate=True))
        else:
            run.fit(Digits(validate=True))
        assert callback.decision.stop is stopped and (run.global_step < BATCHES) is stopped
    assert [verdict.epoch for verdict in callback.verdicts] == TIMES[:-2]


def test_what_has_diverged_is_stopped_whatever_the_sweep_thinks() -> None:
    for member in (Told(1.0, runs=0), Told(1.0)):
        _, callback, error = fit(member, lr=1e30)
        assert isinstance(error, Ended) and "training has diverged" in callback.decision.reason
        assert [one.finite for one in callback.history] == [True, False]  # at the first look


def test_out_of_processes_that_were_spawned_nothing_is_raised() -> None:
    launched = _MultiProcessingLauncher.__new__(_MultiProcessingLauncher)
    for launcher, raises in ((launched, False), (None, True)):
        session, callback = TrialSession(Told(1.0), SweepPredictor()), Callback()
        session.exception = Ended("too low")
        strategy = SimpleNamespace(launcher=launcher)
        run: Any = SimpleNamespace(strategy=strategy, callbacks=[callback], loggers=[])
        with pytest.raises(Ended) if raises else nullcontext():
            session.raise_if_stopped(run, Perceptron(0.1), callback)
        assert session.exception is None


def test_all_else_is_brought_to_its_end_before_the_exception(tmp_path: Path) -> None:
    class After(Callback):
        calls: list[str] = []  # noqa: RUF012

        def teardown(self, *_: Any, stage: str) -> None:
            self.calls.append(stage)

    class Logger(CSVLogger):
        ends: list[str] = []  # noqa: RUF012

        def finalize(self, status: str) -> None:
            self.ends.append(status)
            super().finalize(status)

    logger = Logger(tmp_path)
    run, _, error = fit(Told(1e-7), After(), logger=logger)
    assert error is not None and After.calls == ["fit"] and run.model_of_test.calls == ["teardown fit"]
    assert Logger.ends == ["success"]
    (record,) = tmp_path.rglob("nndyn-*.json")
    assert json.loads(record.read_text())["status"] == "stopped"
    logger.finalize("failed")  # a later run is finalized as usual
    assert Logger.ends == ["success", "failed"]


def test_a_resumed_run_keeps_the_decision_and_notes_its_readings_again(tmp_path: Path) -> None:
    run, first, error = fit(Told(1e-7))
    run.save_checkpoint(tmp_path / "run.ckpt")
    torch.load(tmp_path / "run.ckpt", weights_only=True)
    again, resumed, raised = fit(Told(1e-7, runs=0), ckpt=tmp_path / "run.ckpt")
    assert error is not None and str(raised) == str(error) and again.global_step == run.global_step
    assert resumed.decision == first.decision
    member = Told(1.0)
    good, _, _ = fit(member, max_epochs=1)
    good.save_checkpoint(tmp_path / "good.ckpt")
    later = Told(1.0)
    fit(later, max_epochs=2, ckpt=tmp_path / "good.ckpt")
    assert [time for time, _ in later.notes] == TIMES[:-1]


def test_neither_checkpoint_nor_state_key_nor_copies_hold_the_trial(tmp_path: Path) -> None:
    found = study(journal(tmp_path))
    callback, without = joined(found.ask()), joined(None)
    assert callback.state_key == without.state_key
    assert callback.state_dict().keys() == without.state_dict().keys()
    copied = copy.deepcopy(callback)
    assert copied._trial.member is callback._trial.member  # there is but one trial
    sent = pickle.loads(pickle.dumps(callback))
    assert sent._trial.member.reachable
    sent._trial.member.report(Reading(1.0), {"verdict": "go on"})
    assert found.trials[0].user_attrs["nndyn:verdict"] == "go on"


def test_a_trial_in_memory_stays_behind_and_says_so() -> None:
    with pytest.warns(NNDynWarning, match=r"trial 0 cannot go along.*give the study a storage"):
        sent = pickle.loads(pickle.dumps(joined(study().ask())))
    assert not sent._trial.member.reachable and sent._trial.member.runs() == []


def test_a_member_that_knows_of_no_other_process_is_not_asked() -> None:
    joined(Told(1.0)).check_pruned()
