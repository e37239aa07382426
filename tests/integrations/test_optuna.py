"""A sweep under Optuna: trials learn from those that have finished, and are pruned by Optuna's own means."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from callback_runs import BATCHES, Digits, Scripted, trainer
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from mutations import mutations
from sweep_runs import Perceptron, joined, suggested, train

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.errors import NNDynWarning, SweepError
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES
from lightning_nndyn.sweep import Reading, SweepMember, SweepPredictor, SweepRun

optuna = pytest.importorskip("optuna")

from optuna.storages import JournalStorage, RDBStorage  # noqa: E402
from optuna.storages.journal import JournalFileBackend  # noqa: E402
from optuna.trial import TrialState  # noqa: E402
from optuna_studies import states, study  # noqa: E402

from lightning_nndyn.integrations.optuna import OptunaMember  # noqa: E402
from lightning_nndyn.integrations.optuna_storage import EndedTrials, decode_readings, user_values  # noqa: E402

TIMES = [*DEFAULT_TIMES, 1.0, 2.0, 3.0]
READINGS = {f"nndyn:reading:{time:g}" for time in TIMES}


def journal(folder: Path) -> Any:
    return JournalStorage(JournalFileBackend(str(folder / "sweep.log")))


@pytest.fixture(scope="module")
def swept() -> Any:
    """24 trials in memory."""
    found = study()
    found.optimize(lambda trial: train(trial, joined(trial)), n_trials=24)
    return found


# -- a sweep -------------------------------------------------------------------------------------------------


def test_nothing_is_pruned_before_enough_have_finished(swept: Any) -> None:
    assert states(swept)[:10] == ["COMPLETE"] * 10
    for trial in swept.trials[:10]:
        assert not trial.intermediate_values
        assert trial.user_attrs["nndyn:reason"] == "goes on: 10 runs of this sweep must have finished first"


def test_low_trials_are_pruned_and_the_best_are_kept(swept: Any) -> None:
    pruned = [trial for trial in swept.trials if trial.state == TrialState.PRUNED]
    late = swept.trials[10:]
    low = [trial for trial in late if not 3e-3 < trial.params["lr"] < 1]
    assert len(low) >= 5 and sum(trial in pruned for trial in low) >= 0.8 * len(low)
    assert not [trial for trial in pruned if 0.03 < trial.params["lr"] < 0.3]
    assert swept.best_value > 0.85
    assert np.mean([len(trial.intermediate_values) for trial in pruned]) < 0.5 * len(TIMES)


def test_a_pruned_trial_says_why_in_its_attributes(swept: Any) -> None:
    pruned = [trial for trial in swept.trials if trial.state == TrialState.PRUNED]
    for trial in pruned:
        found = trial.user_attrs
        assert found["nndyn:verdict"] == "stopped" and len(found["nndyn:signature"]) == 10
        assert found["nndyn:reason"].startswith("predicted final value")
        # Optuna takes the last intermediate value, our prediction, for the value of a pruned trial.
        assert f"predicted final value {trial.value:.4g}" in found["nndyn:reason"]
        steps = sorted(trial.intermediate_values)
        assert steps == [round(1000 * time) for time in TIMES[: len(steps)]]


def test_a_finished_trial_holds_all_its_readings(swept: Any) -> None:
    for trial in swept.trials:
        if trial.state == TrialState.COMPLETE:
            found = {name: text for name, text in trial.user_attrs.items() if name in READINGS}
            assert found.keys() == READINGS and trial.user_attrs["nndyn:verdict"] == "finished"
            last = Reading.from_dict(json.loads(found["nndyn:reading:3"]))
            assert last.time == 3 and len(last.weights) > 20 and len(last.curve) == 5
            assert last.curve[2] == pytest.approx(trial.value, abs=1e-5)
            assert all(len(text) < 2048 for text in found.values())


def test_the_members_see_the_study_as_it_is(swept: Any) -> None:
    runs = OptunaMember(swept.ask()).runs()
    assert [run.value for run in runs] == [
        trial.value if trial.state == TrialState.COMPLETE else None
        for trial in swept.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])
    ]
    assert [run.stopped for run in runs] == [state == "PRUNED" for state in states(swept)[:24]]
    finished = [run for run in runs if run.finished]
    assert all([reading.time for reading in run.readings] == TIMES for run in finished)
    assert finished[0].params == swept.trials[0].params


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_the_same_sweep_on_other_storages(swept: Any, kind: str, tmp_path: Path) -> None:
    place = RDBStorage(f"sqlite:///{tmp_path / 'sweep.db'}") if kind == "sqlite" else journal(tmp_path)
    found = study(place)
    found.optimize(lambda trial: train(trial, joined(trial)), n_trials=12)
    assert states(found) == states(swept)[:12] and "PRUNED" in states(found)
    for here, there in zip(found.trials, swept.trials, strict=False):
        assert here.user_attrs == there.user_attrs
        assert here.intermediate_values == pytest.approx(there.intermediate_values)


def test_a_study_that_minimizes_with_any_metric_as_monitor() -> None:
    found = study(direction="minimize")
    found.optimize(lambda trial: train(trial, joined(trial, monitor="val_loss"), "val_loss"), n_trials=24)
    pruned = [trial.params["lr"] for trial in found.trials if trial.state == TrialState.PRUNED]
    assert len(pruned) >= 4 and all(not 0.03 < lr < 0.3 for lr in pruned)
    (reading,) = OptunaMember(found.ask()).runs()[0].readings[-1:]
    assert reading.curve[2] == pytest.approx(-found.trials[0].value, rel=1e-3)  # larger is better


# -- one run in a sweep --------------------------------------------------------------------------------------


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


def test_the_audit_share_is_5_percent_in_a_sweep_and_needs_no_monitor() -> None:
    assert GraphDynamicsCallback(None, trial=Told(1.0)).audit_share == 0.05
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


def test_a_run_asks_its_member_whether_it_was_pruned_elsewhere(swept: Any) -> None:
    trial = swept.ask()
    callback = joined(trial)
    callback.check_pruned()  # nothing is known
    trial.set_user_attr("nndyn:verdict", "stopped")
    trial.set_user_attr("nndyn:reason", "because")
    with pytest.raises(optuna.TrialPruned, match="because"):
        callback.check_pruned()
    joined(Told(1.0)).check_pruned()
    joined(None).check_pruned()


# -- Optuna's own ways ---------------------------------------------------------------------------------------


def test_a_study_with_several_objectives_is_refused() -> None:
    trial = optuna.create_study(directions=["maximize", "minimize"]).ask()
    with pytest.raises(SweepError, match="has 2 objectives"):
        joined(trial)


def test_a_sweep_takes_a_trial_and_its_direction() -> None:
    with pytest.raises(ValueError, match="give this run's trial="):
        GraphDynamicsCallback(None, sweep=SweepPredictor())
    with pytest.raises(ValueError, match=r"SweepPredictor\(direction='minimize'\)"):
        joined(study(direction="minimize").ask(), sweep=SweepPredictor())


@pytest.mark.parametrize("every", [1, 2])
def test_a_value_before_the_first_validation_is_not_made_up(every: int) -> None:
    """A loss has no value of guessing: the earliest known one stands for those before it."""
    trial = study(direction="minimize").ask()
    callback = joined(trial, monitor="val_loss")
    train(trial, callback, metric="val_loss", max_epochs=4, check_val_every_n_epoch=every)
    known = [value for value in callback.session.record.accuracies if math.isfinite(value)]
    noted = [reading.curve for reading in decode_readings(trial.user_attrs) if len(reading.curve) > 2]
    assert len(known) == 4 // every
    assert noted[-1][-3:-1] == pytest.approx((-known[-1], -min(known)), abs=1e-3)


def test_a_fixed_trial_trains_and_learns_nothing() -> None:
    trial = optuna.trial.FixedTrial({"lr": 0.1, "width": 8})
    assert train(trial, joined(trial), max_epochs=1) > 0.3


def test_the_users_own_intermediate_values_stay_as_they_are() -> None:
    class Reports(Callback):
        def __init__(self, trial: Any) -> None:
            self.trial = trial

        def on_validation_end(self, trainer: Any, *_: Any) -> None:
            if not trainer.sanity_checking:
                self.trial.report(float(trainer.callback_metrics["val_acc"]), trainer.current_epoch)

    def objective(trial: Any) -> float:
        callback = joined(trial, sweep=SweepPredictor(n_startup_trials=5))
        run = trainer(callback, Reports(trial), max_epochs=2)
        run.fit(suggested(trial))
        return float(run.callback_metrics["val_acc"])

    found = study()
    with warnings.catch_warnings():
        warnings.simplefilter("error", optuna.exceptions.ExperimentalWarning)
        found.optimize(objective, n_trials=9)
    assert all(set(trial.intermediate_values) <= {0, 1} for trial in found.trials)
    assert "predicted final value" in found.trials[-1].user_attrs["nndyn:reason"]


def test_each_finished_trial_is_parsed_once(swept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning_nndyn.integrations.optuna_storage as module

    found = study()
    found.add_trials([trial for trial in swept.trials if trial.state == TrialState.COMPLETE])
    parsed = []
    real = module.json.loads
    monkeypatch.setattr(module.json, "loads", lambda text: parsed.append(text) or real(text))
    first, second = OptunaMember(found.ask()), OptunaMember(found.ask())
    runs = first.runs()
    once = len(parsed)
    assert once == len(READINGS) * len(runs)
    assert second.runs() == runs and len(parsed) == once


def test_a_callback_without_optuna_is_none_of_its_business() -> None:
    script = (
        "import sys, lightning_nndyn as nd; nd.GraphDynamicsCallback(None); print('optuna' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# -- the pruner ----------------------------------------------------------------------------------------------


def test_the_pruner_reads_what_the_callback_has_noted(swept: Any) -> None:
    from lightning_nndyn.integrations.optuna_pruner import _readings

    trial = copy.deepcopy(swept.trials[0])
    trial.intermediate_values = {0: 0.5, 1: 0.7, 2: 0.6}
    found = _readings(trial, max)
    assert [reading.time for reading in found] == [1, 2, 3] and len(found[0].weights) > 20
    assert found[2].curve == pytest.approx((0.6, 0.7, -0.1))
    late = swept.trials[23]
    assert late.intermediate_values and _readings(late, max) == []  # predictions are no values


@pytest.mark.parametrize(
    "name", ["nndyn:reading:1", "nndyn:reading:abc", "nndyn:reading:", "nndyn:reading:1e999"]
)
def test_a_damaged_attribute_ends_no_other_trial(name: str) -> None:
    study = optuna.create_study()
    good = Reading(0.5, (1.0,), (0.5,))
    texts: list[Any] = ["{", "[]", "null", 1, None, [1], "[" * 10**5]
    texts += [json.dumps(mutated) for _, mutated in mutations(good.to_dict())]
    for text in texts:
        attributes = {"nndyn:reading:0.5": json.dumps(good.to_dict()), name: text, "nndyn:weight": "much"}
        study.add_trial(
            optuna.trial.create_trial(
                value=0.5, user_attrs=attributes, intermediate_values={500: 0.1, 7: 0.2}
            )
        )
    with pytest.warns(NNDynWarning, match=f"the user attribute {name!r} of a trial holds no reading"):
        runs = EndedTrials(lambda one: decode_readings(one.user_attrs)).runs(study)
    assert len(runs) == len(texts) and all(good in run.readings and run.weight == 1 for run in runs)
    assert all(set(user_values(trial)) == {7} for trial in study.trials)
