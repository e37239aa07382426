"""A sweep under Ray Tune on a cluster of two nodes, one of which dies in the middle."""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import SUPPORT
from warm_processes import run_warm

pytest.importorskip("ray.tune")

import ray.train
from ray import tune
from ray_nodes import Nodes, nodes
from sweep_ray_trials import STARTUP, trial

from lightning_nndyn.errors import NNDynWarning, SweepError
from lightning_nndyn.integrations.ray import RayMember, end_sweep
from lightning_nndyn.integrations.ray_actor import NAMESPACE, decode_run
from lightning_nndyn.sweep import Reading, SweepRun

pytestmark = pytest.mark.needs("ray")

TRIALS, DIES_AT = 26, 11
api = tune if hasattr(tune, "RunConfig") else ray.train  # before Ray 2.43


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes(str(SUPPORT)) as found:
        found.start()
        found.start('--resources={"other": 1}')
        ray.init(found.address, namespace="tests", log_to_driver=False)
        yield found
        ray.shutdown()


class Death(tune.Callback):
    """Kills a node once so many trials have ended."""

    def __init__(self, cluster: Nodes) -> None:
        self.cluster, self.ended, self.finished, self.killed = cluster, 0, 0, set[int]()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its callbacks; processes cannot be

    def on_trial_complete(self, trial: Any, **_: Any) -> None:
        self.ended += 1
        self.finished += (not self.killed) * (trial.last_result["nndyn_verdict"] == "finished")
        if self.ended == DIES_AT:
            self.killed = self.cluster.kill(1)


def rates(count: int) -> list[float]:
    """From too small to too large, in random order."""
    found = torch.rand(count, generator=torch.Generator().manual_seed(0))
    return (10 ** (found * 5 - 5)).tolist()


def sweep(folder: Path, count: int, callbacks: Any = (), scheduler: Any = None, **config: Any) -> Any:
    configs = [{"lr": lr, "number": number, **config} for number, lr in enumerate(rates(count))]
    run = {"storage_path": str(folder), "name": folder.name, "verbose": 0, "callbacks": list(callbacks)}
    return tune.Tuner(
        unpacked,
        param_space={"of": tune.grid_search(configs)},
        tune_config=tune.TuneConfig(scheduler=scheduler, reuse_actors=True),
        run_config=api.RunConfig(**run),
    ).fit()


def unpacked(config: dict[str, Any]) -> None:
    trial(config["of"])


def learned_from(reason: str) -> int:
    found = re.search(r"learned from (\d+) finished", reason)
    return int(found[1]) if found else 0


def ended_runs(name: str) -> list[SweepRun]:
    actor = ray.get_actor(name, namespace=NAMESPACE)
    return [decode_run(run) for _, run in ray.get(actor.since.remote(0))]


@pytest.fixture(scope="module")
def swept(cluster: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Any:
    death = Death(cluster)
    meeting = str(tmp_path_factory.mktemp("meeting"))
    folder = tmp_path_factory.mktemp("dying")
    found = sweep(folder, TRIALS, [death], action="stop", sweep="digits", meeting=meeting)
    return [result.metrics for result in found if not result.error], death


def test_the_sweep_ends_and_loses_nothing_but_the_trial_that_was_killed(swept: Any) -> None:
    ended, death = swept
    assert len(ended) >= TRIALS - 1
    there = [metrics for metrics in ended if metrics["pid"] in death.killed]
    assert 2 <= len(there) < len(ended) - 5 and any(m["nndyn_verdict"] == "finished" for m in there)
    known = ended_runs("digits")
    assert len(ended) <= len(known) <= TRIALS
    values = [round(run.value, 4) for run in known if run.value is not None]
    assert all(round(m["nndyn_value"], 4) in values for m in ended if not m["nndyn_stop"])
    assert all(set(run.params) == {"lr"} and len(run.readings) == 7 for run in known if run.finished)


def test_the_predictor_goes_on_learning_after_the_death(swept: Any) -> None:
    ended, death = swept
    assert max(learned_from(m["nndyn_reason"]) for m in ended) > death.finished >= STARTUP - 2


def test_trials_are_stopped_once_enough_have_finished(swept: Any) -> None:
    ended, _ = swept
    stopped = [metrics for metrics in ended if metrics["nndyn_stop"]]
    assert 2 <= len(stopped) <= len(ended) - STARTUP
    for metrics in stopped:
        assert metrics["nndyn_verdict"] == "stopped" and learned_from(metrics["nndyn_reason"]) >= STARTUP
        assert metrics["nndyn_epoch"] < 3 and math.isnan(metrics["nndyn_value"])
        assert metrics["nndyn_predicted"] < 0.75 and 0 <= metrics["nndyn_p_good"] < 0.5
    finished = [metrics for metrics in ended if not metrics["nndyn_stop"]]
    assert all(m["nndyn_epoch"] == 3 and m["nndyn_value"] >= m["val_acc"] > 0 for m in finished)
    best = max(finished, key=lambda metrics: metrics["nndyn_value"])
    assert best["nndyn_value"] > 0.8


def test_a_scheduler_ranks_by_the_prediction_and_observing_stops_nothing(swept: Any, tmp_path: Path) -> None:
    asha = tune.schedulers.ASHAScheduler(
        time_attr="nndyn_epoch", metric="nndyn_predicted", mode="max", grace_period=1, max_t=9,
        reduction_factor=2, stop_last_trials=False,
    )  # fmt: skip
    found = sweep(tmp_path, 8, scheduler=asha, action="observe", sweep="digits")
    ended = [result.metrics for result in found]
    assert len(ended) == 8 and not any(metrics["nndyn_stop"] for metrics in ended)
    assert any(metrics["nndyn_verdict"] == "would stop" for metrics in ended)
    halved = [metrics for metrics in ended if metrics["nndyn_epoch"] < 3]
    assert 1 <= len(halved) <= 6 and {metrics["nndyn_epoch"] for metrics in halved} <= {1.0, 2.0}
    kept = [m["nndyn_predicted"] for m in ended if m["nndyn_epoch"] == 3]
    assert max(m["nndyn_predicted"] for m in halved) < max(kept)


def test_what_is_shared_survives_the_death_of_its_process(swept: Any) -> None:
    before = ended_runs("digits")
    ray.kill(ray.get_actor("digits", namespace=NAMESPACE), no_restart=False)
    assert len(before) >= TRIALS - 1 and ended_runs("digits") == before


def test_training_goes_on_where_nothing_is_shared_any_more(cluster: Nodes) -> None:
    other = RayMember({"lr": 0.1}, sweep="lost")
    for time, curve in [(0.5, (1.0, 1.0)), (1.0, (1.0, 1.0, 0.3, 0.5, -0.2))]:
        other.report(Reading(time, (1.0,), curve), {})
    other.finish(False, "goes on")
    member = RayMember({"lr": 0.2}, sweep="lost")
    (run,) = member.runs()
    assert (run.params, run.value, run.finished) == ({"lr": 0.1}, 0.5, True)
    assert [reading.time for reading in run.readings] == [0.5, 1]
    ray.kill(ray.get_actor("lost", namespace=NAMESPACE))
    with pytest.warns(NNDynWarning, match=r"the sweep 'lost'.*ActorDied.*training goes on") as warned:
        assert len(member.runs()) == 1
        member.finish(True, "stops")
    assert len(warned) == 1


def test_an_ended_sweep_begins_anew(cluster: Nodes) -> None:
    first = RayMember({}, sweep="twice")
    first.finish(True, "stops")
    assert [run.stopped for run in RayMember({}, sweep="twice").runs()] == [True]  # but not in its own
    end_sweep("twice")
    assert RayMember({}, sweep="twice").runs() == []
    end_sweep("twice")
    end_sweep("never begun")


def test_small_values_may_be_the_good_ones(cluster: Nodes) -> None:
    member = RayMember({}, metric="val_loss", mode="min", sweep="losses")
    member.report(Reading(1.0, (), (-0.4, -0.3, 0.1)), {})
    member.finish(False, "goes on")
    assert [run.value for run in RayMember({}, mode="min", sweep="losses").runs()] == [0.3]
    end_sweep("losses")


def test_members_are_made_in_trials() -> None:
    with pytest.raises(SweepError, match=r"outside of a Ray Tune trial.*sweep="):
        RayMember({"lr": 0.1})
    with pytest.raises(SweepError, match="mode='maximum': it is 'max' or 'min'"):
        RayMember({}, mode="maximum", sweep="any")  # type: ignore[arg-type]


def test_a_restored_sweep_knows_what_had_ended_before_its_driver_was_killed(tmp_path: Path) -> None:
    for part, ended in (("begin", -signal.SIGKILL), ("restore", 0)):
        code, said = run_warm(SUPPORT / "ray_killed_script.py", tmp_path, part, folder=tmp_path)
        assert code == ended, said
    lines = [line.split(": ") for line in (tmp_path / "known.txt").read_text().splitlines()]
    # What Tune had not saved of trials 0 to 2 when its driver was killed is trained again.
    first = {number: known for number, known in reversed(lines)}
    assert [first[number] for number in "012"] == ["[]", "[0]", "[0, 1]"]
    assert all(number not in json.loads(known) for number, known in ((int(n), k) for n, k in lines))
    assert all({0, 1, 2} <= set(json.loads(first[number])) for number in "345")  # in any order
    assert [file.name for file in (tmp_path / "experiment").glob("nndyn-sweep-*.jsonl")]
