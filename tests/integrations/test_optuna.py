"""A sweep under Optuna: trials learn from those that have finished, and are pruned by Optuna's own means."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from callback_runs import trainer
from lightning.pytorch import Callback
from mutations import mutations
from sweep_runs import joined, suggested, train

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.errors import NNDynWarning, SweepError
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES
from lightning_nndyn.sweep import Reading, SweepPredictor

optuna = pytest.importorskip("optuna")

from optuna.storages import RDBStorage  # noqa: E402
from optuna.trial import TrialState  # noqa: E402
from optuna_studies import journal, states, study  # noqa: E402

from lightning_nndyn.integrations.optuna import OptunaMember  # noqa: E402
from lightning_nndyn.integrations.optuna_storage import EndedTrials, decode_readings, user_values  # noqa: E402

TIMES = [*DEFAULT_TIMES, 1.0, 2.0, 3.0]
READINGS = {f"nndyn:reading:{time:g}" for time in TIMES}


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
    found.optimize(lambda trial: train(trial, joined(trial)), n_trials=18)
    assert states(found) == states(swept)[:18] and "PRUNED" in states(found)
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


def test_a_run_asks_its_member_whether_it_was_pruned_elsewhere(swept: Any) -> None:
    trial = swept.ask()
    callback = joined(trial)
    callback.check_pruned()  # nothing is known
    trial.set_user_attr("nndyn:verdict", "stopped")
    trial.set_user_attr("nndyn:reason", "because")
    with pytest.raises(optuna.TrialPruned, match="because"):
        callback.check_pruned()
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
