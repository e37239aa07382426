"""A scheduler that pauses trials: who goes on, and that nothing is lost when a node or the driver dies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paths import SUPPORT
from processes import environment

pytest.importorskip("ray.tune")

import paused_runs
import ray
from ray import tune
from ray_nodes import Nodes, nodes
from ray_paused_script import RATES, callback, tuner

from lightning_nndyn.errors import SweepError
from lightning_nndyn.integrations.ray import GraphDynamicsScheduler
from lightning_nndyn.sweep import SweepReading

pytestmark = pytest.mark.needs("ray")


# -- without a cluster ---------------------------------------------------------------------------------------


class Trial:
    """What the scheduler asks of a trial."""

    def __init__(self, number: int) -> None:
        self.trial_id, self.status = f"trial{number}", "PENDING"
        self.config, self.last_result = {"lr": 0.1}, dict[str, Any]()


class Controller:
    """What the scheduler asks of Tune."""

    def __init__(self, count: int) -> None:
        self.trials = [Trial(number) for number in range(count)]
        self.search_alg = self
        self.scheduler = GraphDynamicsScheduler(((1 / 4, 0.5), (1.0, 0.25)))
        for trial in self.trials:
            self.scheduler.on_trial_add(self, trial)

    def get_trials(self) -> list[Trial]:
        return self.trials

    def is_finished(self) -> bool:
        return True

    def stop_trial(self, trial: Trial) -> None:
        trial.status = "TERMINATED"
        self.scheduler.on_trial_remove(self, trial)

    def report(self, number: int, accuracy: float, *times: float) -> str:
        """A trial reports all its readings; the higher its accuracy, the lower are its losses."""
        trial = self.trials[number]
        trial.status = "RUNNING"
        curves = [(1 - accuracy,) * 2 + (accuracy, accuracy, 0.0) * (time >= 1) for time in times]
        readings = [
            SweepReading(time, (), curve).to_dict() for time, curve in zip(times, curves, strict=True)
        ]
        decision = self.scheduler.on_trial_result(self, trial, {"nndyn_readings": json.dumps(readings)})
        trial.status = "PAUSED" if decision == "PAUSE" else "RUNNING"
        return decision

    def chosen(self) -> int | None:
        found = self.scheduler.choose_trial_to_run(self)
        assert self.scheduler.choose_trial_to_run(self) is found
        return None if found is None else self.trials.index(found)

    def end(self, number: int) -> None:
        self.trials[number].status = "TERMINATED"
        self.scheduler.on_trial_complete(self, self.trials[number], {})


def test_trials_are_promoted_as_soon_as_they_stand_among_the_best_of_a_rung() -> None:
    tuned = Controller(4)
    assert tuned.chosen() == 0 and tuned.report(0, 0.5, 1 / 8) == "CONTINUE"
    assert tuned.report(0, 0.5, 1 / 8, 1 / 4) == "PAUSE"  # one alone is not the better half
    assert tuned.chosen() == 1 and tuned.report(1, 0.3, 1 / 4) == "PAUSE"
    assert tuned.chosen() == 0  # the better one of two goes on
    assert tuned.report(0, 0.5, 1 / 8, 1 / 4, 1.0) == "PAUSE"
    assert tuned.chosen() == 2 and tuned.report(2, 0.9, 1 / 4) == "CONTINUE"
    assert tuned.report(2, 0.9, 1 / 4, 1.0) == "CONTINUE"
    assert tuned.chosen() == 3 and tuned.report(3, 0.1, 1 / 4) == "PAUSE"
    assert "4 have reached 0.25, 2 have reached 1 epochs" in tuned.scheduler.debug_string()
    tuned.end(2)
    assert tuned.chosen() is None
    assert {trial.status for trial in tuned.trials} == {"TERMINATED"}


def ranked(*accuracies: float) -> Controller:
    """The better half has reached one epoch and waits there."""
    tuned = Controller(len(accuracies))
    for number, accuracy in enumerate(accuracies):
        tuned.report(number, accuracy, 1 / 4)
    for number in range(len(accuracies) // 2):
        tuned.report(number, accuracies[number], 1 / 4, 1.0)
        tuned.trials[number].status = "PAUSED"
    for trial in tuned.trials:
        trial.status = "PAUSED"
    return tuned


def test_for_a_trial_that_fails_the_next_one_goes_on() -> None:
    tuned = ranked(0.9, 0.8, 0.2, 0.1)
    assert tuned.chosen() == 0
    tuned.trials[0].status = "ERROR"
    tuned.scheduler.on_trial_error(tuned, tuned.trials[0])
    assert tuned.chosen() == 1


def test_a_paused_trial_goes_on_if_all_that_have_ended_were_worse() -> None:
    tuned = ranked(0.9, 0.8, 0.2, 0.1)
    tuned.report(0, 0.7, 1 / 4, 1.0, 2.0)
    tuned.end(0)
    assert tuned.chosen() == 1
    tuned.report(1, 0.75, 1 / 4, 1.0, 2.0)
    tuned.end(1)
    assert tuned.chosen() is None and tuned.trials[3].status == "TERMINATED"


def test_a_restored_experiment_knows_what_its_trials_had_reported() -> None:
    tuned, again = ranked(0.9, 0.8, 0.2, 0.1), Controller(0)
    for trial in tuned.trials:
        known = tuned.scheduler._known[trial.trial_id].readings
        trial.last_result = {"nndyn_readings": json.dumps([reading.to_dict() for reading in known])}
        again.trials.append(trial)
        again.scheduler.on_trial_add(again, trial)
    assert again.chosen() == tuned.chosen() == 0


@pytest.mark.parametrize("rungs", [(), ((1, 0.5), (0.5, 0.2)), ((1, 0.2), (2, 0.5)), ((1, 1.5),)])
def test_bad_rungs_are_named(rungs: Any) -> None:
    with pytest.raises(SweepError, match="rungs="):
        GraphDynamicsScheduler(rungs)


# -- on a cluster --------------------------------------------------------------------------------------------


class Death(tune.Callback):
    """Kills a node once a trial there has reported with a checkpoint."""

    def __init__(self, cluster: Nodes) -> None:
        self.cluster, self.killed = cluster, set[int]()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its callbacks; processes cannot be

    def on_trial_result(self, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
        if not self.killed and result["nndyn_epoch"] > 0.1 and self.cluster.runs(1, result["pid"]):
            self.killed = self.cluster.kill(1)


def unbroken(rate: float) -> str:
    return paused_runs.run({"rate": rate}, callback())[1]


def check_ended(folder: Path) -> None:
    """The trials that have come to their end did so once each, with the weights of an unbroken run."""
    found = [line.split() for line in (folder / "ended").read_text().splitlines()]
    assert found and len({rate for rate, _ in found}) == len(found)
    assert all(digest == unbroken(float(rate)) for rate, digest in found)
    assert "r" in (folder / "begun").read_text()  # from checkpoints


def test_a_node_dies_and_its_trials_go_on_from_their_checkpoints(tmp_path: Path) -> None:
    with nodes(str(SUPPORT)) as cluster:
        cluster.start()
        cluster.start()
        ray.init(cluster.address, namespace="tests", log_to_driver=False)
        try:
            death = Death(cluster)
            found = tuner(tmp_path, callbacks=[death]).fit()
        finally:
            ray.shutdown()
    assert death.killed and len(found) == len(RATES) and not found.errors
    reached = sorted(result.metrics["nndyn_epoch"] for result in found)
    assert reached[0] == 0.25 and reached[-1] == 4.0
    check_ended(tmp_path)


def test_a_driver_dies_and_the_restored_experiment_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", str(SUPPORT / "ray_paused_script.py"), str(tmp_path)]
    killed = subprocess.run([*command, "begin"], env=environment(), capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = subprocess.run([*command, "restore"], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check_ended(tmp_path)
