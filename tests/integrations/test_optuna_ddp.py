"""A sweep of runs on two processes: one keeps the trial, both stop alike, and both know of it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from processes import needs_gloo, run_script

optuna = pytest.importorskip("optuna")

from optuna.storages import JournalStorage  # noqa: E402
from optuna.storages.journal import JournalFileBackend  # noqa: E402

pytestmark = needs_gloo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddp")
    run_script("sweep_ddp_script.py", folder, copies=2)
    return folder


@pytest.fixture(scope="module")
def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(folder / "sweep.log")))
    return optuna.load_study(study_name="ddp", storage=storage).trials


def ends(folder: Path, rank: int) -> list[str]:
    return json.loads((folder / f"ends.{rank}.json").read_text())


def test_each_trial_is_trained_once_and_some_are_pruned(trials: list[optuna.trial.FrozenTrial]) -> None:
    states = [trial.state.name for trial in trials]
    assert len(states) == 14 and set(states) == {"COMPLETE", "PRUNED"} and states[:10] == ["COMPLETE"] * 10
    for trial in trials:
        ended = {"COMPLETE": "finished", "PRUNED": "stopped"}[trial.state.name]
        assert trial.user_attrs["nndyn:verdict"] == ended and "nndyn:reading:0.0625" in trial.user_attrs


def test_both_processes_stop_at_the_same_step_for_the_same_reason(folder: Path, trials: list) -> None:
    for trial in trials:
        first, second = (json.loads((folder / f"{trial.number}.{rank}.json").read_text()) for rank in (0, 1))
        assert first == second
        at_its_end = ", after 2 epochs" in first["decision"]  # it had all its epochs, and has finished
        assert (first["stop"] == 1 and not at_its_end) is (trial.state.name == "PRUNED")
        assert first["decision"] == trial.user_attrs["nndyn:reason"]
        if trial.number >= 10:
            assert 0 <= first["p_good"] <= 1


def test_the_exception_is_raised_wherever_there_is_a_trial(folder: Path, trials: list) -> None:
    first, second = ends(folder, 0), ends(folder, 1)
    for trial, here, there in zip(trials, first, second, strict=True):
        pruned = trial.state.name == "PRUNED"
        assert ("pruned: predicted final value" in here) is pruned
        assert there == (here if trial.number % 2 or not pruned else here.partition(" pruned")[0])


def test_spawned_processes_tell_the_objective_through_the_storage(tmp_path: Path) -> None:
    run_script("sweep_spawn_script.py", tmp_path)
    state, reason = json.loads((tmp_path / "last.json").read_text())
    assert state == "PRUNED" and reason.startswith("predicted final value")
