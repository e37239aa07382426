"""Corpora on clusters of two workers, each a process of its own: the records are those made here."""

import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from backend_tasks import Task, die, die_once, fail_beside_another, keep_to_itself, meet
from paths import SUPPORT
from processes import PATIENCE, wait_until
from warm_processes import Warm

from lightning_nndyn.corpus import load_corpus, run_corpus
from lightning_nndyn.corpus.backends import outcomes
from lightning_nndyn.errors import CorpusError, MissingExtraError

CLUSTERS = [
    pytest.param("ray", marks=pytest.mark.needs("ray")),
    pytest.param("dask", marks=pytest.mark.needs("distributed")),
]
on_each_cluster = pytest.mark.parametrize("backend", CLUSTERS)


@pytest.fixture(scope="module", autouse=True)
def own_surroundings() -> Iterator[None]:
    """No cluster but ours, which finds this module; no usage statistics; nothing in the home folder."""
    folder = tempfile.mkdtemp(prefix="ray-")  # a short path, as those of sockets must be
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SUPPORT), prepend=os.pathsep)
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_TASK_MAX_RETRIES", "1")
        for address in ("RAY_ADDRESS", "DASK_SCHEDULER_ADDRESS"):
            patch.delenv(address, raising=False)
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ray_address(own_surroundings: None) -> Iterator[str]:
    from ray.cluster_utils import Cluster

    lean = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **lean})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="module")
def dask_cluster(own_surroundings: None) -> Iterator[Any]:
    import dask
    from distributed import LocalCluster

    # A run that kills its workers is given up after the second, not after the fourth: these take their time.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
    ):
        yield cluster


@pytest.fixture
def dask_address(dask_cluster: Any) -> str:
    """The cluster once it has both workers: one that an earlier test killed takes its time to come back."""
    from distributed import Client

    with Client(dask_cluster.scheduler_address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=PATIENCE)
    return dask_cluster.scheduler_address


@pytest.fixture
def cluster(backend: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The backend's name, with its cluster named in the environment."""
    variable = {"ray": "RAY_ADDRESS", "dask": "DASK_SCHEDULER_ADDRESS"}[backend]
    monkeypatch.setenv(variable, request.getfixturevalue(f"{backend}_address"))
    return backend


def results(function: Callable[[Task], Any], folder: Path, count: int, **options: Any) -> list[Any]:
    with closing(outcomes(function, [(folder, number) for number in range(count)], **options)) as ended:
        return list(ended)


def records(folder: Path) -> list[str]:
    """What a corpus holds to the last bit, but for how long it took; as text, in which NaN equals NaN."""
    found = [record.to_dict() for record in load_corpus(folder)]
    for record in found:
        del record["seconds"], record["curve"]["seconds"]
    return [json.dumps(record) for record in found]


@pytest.fixture(scope="module")
def trained_here(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("corpus")
    run_corpus("lenet5-digits", folder, runs=4, epochs=1, jobs=1, progress=False)
    return records(folder)


@on_each_cluster
def test_a_cluster_records_what_this_machine_would(
    cluster: str, trained_here: list[str], tmp_path: Path
) -> None:
    run_corpus("lenet5-digits", tmp_path, runs=4, epochs=1, backend=cluster, progress=False)
    assert len(trained_here) == 4
    assert records(tmp_path) == trained_here


@on_each_cluster
def test_both_workers_take_part(cluster: str, tmp_path: Path) -> None:
    processes = results(meet, tmp_path, 2, backend=cluster)
    assert len({*processes, os.getpid()}) == 3


@on_each_cluster
def test_jobs_bound_what_runs_at_once(cluster: str, tmp_path: Path) -> None:
    assert sorted(results(keep_to_itself, tmp_path, 5, backend=cluster, jobs=1)) == [0, 1, 2, 3, 4]


@on_each_cluster
def test_nothing_to_do_is_done(cluster: str, tmp_path: Path) -> None:
    assert results(meet, tmp_path, 0, backend=cluster) == []


@on_each_cluster
def test_an_error_is_raised_as_it_is_before_the_others_end(cluster: str, tmp_path: Path) -> None:
    try:
        with pytest.raises(CorpusError, match="the first one failed") as raised:
            results(fail_beside_another, tmp_path, 2, backend=cluster)
        assert type(raised.value) is CorpusError and str(raised.value) == "the first one failed"
        assert not (tmp_path / "second ended").exists()
    finally:
        (tmp_path / "let go").touch()


@on_each_cluster
def test_a_killed_worker_loses_its_own_run_alone(cluster: str, tmp_path: Path) -> None:
    assert sorted(results(die_once, tmp_path, 2, backend=cluster)) == [0, 1]
    assert [(tmp_path / f"attempts {number}").read_text() for number in (0, 1)] == ["xx", "x"]


@on_each_cluster
def test_a_run_that_kills_each_worker_is_given_up(cluster: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"gave up a run .*: see whether its workers run out of memory"):
        results(die, tmp_path, 1, backend=cluster)


@pytest.mark.needs("distributed")
def test_the_client_of_the_process_is_used_and_left_open(dask_address: str, tmp_path: Path) -> None:
    from distributed import Client

    with Client(dask_address) as client:
        assert set(results(meet, tmp_path, 2, backend="dask")) == set(client.run(os.getpid).values())
        assert client.status == "running"


@pytest.mark.needs("ray")
def test_a_connection_to_ray_is_used_and_left_open(ray_address: str, tmp_path: Path) -> None:
    import ray

    ray.init(address=ray_address)
    try:
        assert len(set(results(meet, tmp_path, 2, backend="ray"))) == 2
        assert ray.is_initialized()
    finally:
        ray.shutdown()


@pytest.mark.needs("distributed")
def test_dask_workers_with_several_threads_are_refused(tmp_path: Path) -> None:
    from distributed import Client

    with (
        Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"),
        pytest.raises(CorpusError, match=r"runs 2 tasks at once in one process.*--nthreads 1"),
    ):
        results(keep_to_itself, tmp_path, 1, backend="dask")


def test_an_unknown_backend_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="there is no backend 'slurm': choose one of loky, ray, dask"):
        results(keep_to_itself, tmp_path, 1, backend="slurm")
    with pytest.raises(CorpusError, match="slurm"):
        run_corpus("lenet5-digits", tmp_path, runs=1, epochs=1, backend="slurm", progress=False)


@pytest.mark.parametrize(("backend", "package"), [("ray", "ray"), ("dask", "distributed")])
def test_a_missing_package_is_named_with_its_extra(
    backend: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    wanted = rf"{backend} cluster needs the package '{package}'.*lightning-nndyn\[{backend}\]"
    with pytest.raises(MissingExtraError, match=f"(?i){wanted}"):
        results(keep_to_itself, tmp_path, 1, backend=backend)


@pytest.mark.needs("distributed")
def test_a_dask_cluster_that_is_not_there_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask

    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:1")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "500ms"}),
        pytest.raises(CorpusError, match=r"no Dask cluster .*DASK_SCHEDULER_ADDRESS='tcp://127.0.0.1:1'"),
    ):
        results(keep_to_itself, tmp_path, 1, backend="dask")


@pytest.mark.needs("ray")
def test_a_ray_cluster_that_is_not_there_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(CorpusError, match=r"no Ray cluster .*RAY_ADDRESS='127.0.0.1:1'"):
        results(keep_to_itself, tmp_path, 1, backend="ray")


# A test run in the background may have inherited that Ctrl-C is ignored: the script takes it back.
SCRIPT = """
import signal, sys
from lightning_nndyn.corpus import run_corpus
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_corpus("lenet5-digits", sys.argv[1], jobs=2, epochs=1, backend=sys.argv[2])
"""


@pytest.mark.needs("psutil")
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@on_each_cluster
def test_ctrl_c_ends_the_cluster_that_was_started(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No cluster is named or to be found: one starts, trains, and goes with all its processes."""
    psutil = importlib.import_module("psutil")
    script, folder, output = tmp_path / "train.py", tmp_path / "corpus", tmp_path / "output.txt"
    script.write_text(SCRIPT)
    with tempfile.TemporaryDirectory(prefix="ray-") as elsewhere:
        monkeypatch.setenv("RAY_TMPDIR", elsewhere)
        running = Warm(script, folder, backend, folder=tmp_path, output=output)
        wait_until(lambda: list((folder / "runs").glob("run-*")), running)
        processes = psutil.Process(running.pid).children(recursive=True)
        running.kill(signal.SIGINT)
        code, said = running.wait(PATIENCE), output.read_text()
        _, left = psutil.wait_procs(processes, timeout=PATIENCE)
    assert len(processes) >= 2 and left == [], said
    assert code != 0 and "give the same command again" in said
    assert len(load_corpus(folder)) >= 1
