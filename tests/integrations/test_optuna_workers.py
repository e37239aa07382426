"""Several workers of one sweep on PostgreSQL; one of them is killed in the middle of a trial."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from paths import SUPPORT
from postgres_server import postgres
from processes import PATIENCE, wait_until
from warm_processes import Warm

if TYPE_CHECKING:
    import optuna

pytestmark = pytest.mark.needs("optuna", "psycopg2", "program:initdb")

TRIALS, HANGS = 22, 4


def worker(folder: Path, name: str, url: str, hangs: int, seed: int) -> Warm:
    arguments = SUPPORT / "sweep_worker_script.py", folder, name, url, TRIALS, hangs, seed
    return Warm(*arguments, folder=folder, output=folder / f"{name}.txt")


def let_time_pass(study: optuna.Study, storage: optuna.storages.RDBStorage) -> None:
    """Since the victim's last heartbeat. A living worker's may be minutes late on a busy machine."""
    import sqlalchemy

    (lost,) = (trial for trial in running(study) if trial.user_attrs.get("worker") == "victim")
    old = f"UPDATE trial_heartbeats SET heartbeat = '2000-01-01' WHERE trial_id = {lost._trial_id}"
    with storage.engine.begin() as database:
        database.execute(sqlalchemy.text(old))


def running(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Running trials, without those whose heartbeat is missing."""
    import optuna

    optuna.storages.fail_stale_trials(study)
    return study.get_trials(states=[optuna.trial.TrialState.RUNNING])


def test_a_worker_that_is_killed_loses_nothing_but_its_trial(tmp_path: Path) -> None:
    import optuna

    with postgres() as url:
        storage = optuna.storages.RDBStorage(url, heartbeat_interval=1, grace_period=PATIENCE)
        study = optuna.create_study(storage=storage, study_name="workers", direction="maximize")
        victim, steady = worker(tmp_path, "victim", url, HANGS, 62), worker(tmp_path, "steady", url, 0, 57)
        try:
            wait_until((tmp_path / "hangs").exists, victim, steady)
            victim.kill()
            victim.wait(PATIENCE)
            let_time_pass(study, storage)
            assert steady.wait(PATIENCE) == 0, (tmp_path / "steady.txt").read_text()
        finally:
            for process in (victim, steady):
                process.kill()
        # The steady one fails it as its next trial begins, unless it has ended before the heart was missed.
        wait_until(lambda: not running(study))
        trials = study.trials
    by = {name: [t for t in trials if t.user_attrs["worker"] == name] for name in ("victim", "steady")}
    lost = [trial for trial in trials if trial.state.name not in ("COMPLETE", "PRUNED")]
    assert lost == by["victim"][-1:] and len(trials) == TRIALS + 1
    assert lost[0].state.name == "FAIL"
    assert "nndyn:reading:0.5" in lost[0].user_attrs and "nndyn:reading:1" not in lost[0].user_attrs
    assert len(by["victim"]) == HANGS and len(by["steady"]) > 10
    assert any(trial.state.name == "PRUNED" for trial in by["steady"])
    for trial in trials:
        ended = {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "go on"}[trial.state.name]
        assert trial.user_attrs["nndyn:verdict"] == ended
    # Each learns from what both have finished.
    learned = [re.search(r"learned from (\d+) finished", t.user_attrs["nndyn:reason"]) for t in by["steady"]]
    last = int(next(found for found in reversed(learned) if found)[1])
    complete = sum(trial.state.name == "COMPLETE" for trial in by["steady"])
    own = [trial for trial in by["victim"] if trial.state.name == "COMPLETE"]
    assert own and last > complete - len(own)
