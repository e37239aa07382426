"""One thread, one seed, and what to do where an optional package is missing."""

import copy
import functools
import gc
import logging
import os
import random
import re
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from requirements import why_missing

from lightning_nndyn._files import shipped_folder
from lightning_nndyn.predictor.predictor import Predictor

# The networks here are small: a second thread costs more than it brings, and sums in another order.
torch.set_num_threads(1)
# Processes that tests start have a core at most: threads that wait for one another there wait by spinning.
os.environ["OMP_NUM_THREADS"] = "1"
# Ray's processes yield to all others unless told otherwise, and then wait for the tests beside them to end.
os.environ.setdefault("RAY_worker_niceness", "0")

STARTING_RAY = (
    "corpus/test_backends.py",
    "integrations/test_ray.py",
    "integrations/test_ray_scheduler.py",
    "test_examples.py::test_ray_sweep",
    "test_examples.py::test_ray_scheduler",
)

# What takes minutes begins first: a worker that meets it last would end long after the others.
LONGEST = (
    *STARTING_RAY,
    "callback/test_strategies.py",
    "test_examples.py",
    "corpus/test_runner.py",
    "graph/tracing/test_model_zoo.py",
    "callback/test_killed.py",
    "evaluation/benchmark/test_false_stop_rates.py",
    "callback/test_damaged_files.py",
    "callback/test_compile.py",
    "study/test_run.py",
)

# A corpus that is trained for tests, and predictors of several others, take seconds to make.
SLOW_FIXTURES = {"records", "splits"}

OF_SEVERAL_PROCESSES = ("callback/test_strategies.py", "graph/test_sharding.py")

# Clusters, servers and browsers are other programs, which now and then fail to start on a busy machine. What
# fails in these files is tried once more, and the summary lists it as RERUN. All other tests have one chance.
WITH_OTHER_PROGRAMS = (
    "callback/test_ddp.py",
    "callback/test_deepspeed.py",
    "callback/test_loggers.py",
    "callback/test_participants.py",
    "callback/test_strategies.py",
    "corpus/test_backends.py",
    "evaluation/report/test_page_in_a_browser.py",
    "graph/test_sharding.py",
    "integrations/test_optuna_ddp.py",
    "integrations/test_optuna_workers.py",
    "integrations/test_ray.py",
    "integrations/test_ray_scheduler.py",
    "test_examples.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Once for all workers of a session: a folder for what they share, and a look at what is installed."""
    if not hasattr(config, "workerinput"):
        share_a_folder(config)
        refuse_to_skip()
    if not config.getoption("numprocesses", None):  # the tests run in this process
        start_lean_processes()


def share_a_folder(config: pytest.Config) -> None:
    """For what every process of the tests would else train and fit anew (`shared` in digits_runs.py)."""
    folder = tempfile.TemporaryDirectory(prefix="nndyn-tests-")
    config.add_cleanup(folder.cleanup)
    os.environ["NNDYN_TEST_CACHE"] = folder.name


def start_lean_processes() -> None:
    """Import less than one might, here and in what tests start: some inherit the path, some variables."""
    support = Path(__file__).with_name("support")
    runpy.run_path(str(support / "lean" / "sitecustomize.py"))  # what Python does as the others start
    sys.path.append(str(support / "lean"))
    paths = [os.environ.get("PYTHONPATH"), str(support), str(support / "lean")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def refuse_to_skip() -> None:
    """Fail where what NNDYN_TEST_REQUIRES names (comma-separated) is missing."""
    required = [name for name in os.environ.get("NNDYN_TEST_REQUIRES", "").split(",") if name]
    missing = [reason for reason in map(why_missing, required) if reason]
    if missing:
        raise pytest.UsageError("NNDYN_TEST_REQUIRES: " + "; ".join(missing))


@functools.cache
def slow_files() -> set[Path]:
    folder = Path(__file__).parent
    return {folder / line for line in (folder / "slow_tests.txt").read_text().splitlines()}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of slow tests where none will run: some import what starts clusters and servers."""
    return True if config.getoption("markexpr") == "not slow" and collection_path in slow_files() else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as slow what slow_tests.txt lists and what needs a slow fixture; begin with the longest.

    The order counts where workers share the suite.
    """
    for item in items:
        if item.path in slow_files() or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        items.sort(key=place_among_longest)


def place_among_longest(item: pytest.Item) -> int:
    """Its place in LONGEST, or after all of these."""
    return next((place for place, test in enumerate(LONGEST) if test in item.nodeid), len(LONGEST))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what the libraries are made of: a collection took most of a second."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # else some complain at the end that they have leaked


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where workers share the suite, one has all tests of a file, and one all that start Ray.

    Files have fixtures that take long; those of two and of four processes are another one's each. A Ray that
    starts may join a cluster of another test. The marker for such groups does nothing with pytest 9.2
    (pytest-xdist#1386).
    """
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            processes = re.search(r"[\[-]([24])[]-]", nodeid) if file.endswith(OF_SEVERAL_PROCESSES) else None
            if any(test in nodeid for test in STARTING_RAY):
                return "ray"
            return file + (processes[1] if processes else "")

    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


failed_twice = set[Path]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Grant a second chance, but not where a test of the same file failed twice: each may take minutes."""
    if str(item.path).endswith(WITH_OTHER_PROGRAMS) and item.path not in failed_twice:
        item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: Any) -> None:
    """Begin a second chance from nothing: pytest-rerunfailures would keep what a whole file shares."""
    if item.get_closest_marker("flaky") and any(item._test_failed_statuses.values()):
        if item.execution_count == 1:
            item.session._setupstate.teardown_exact(None)
        else:
            failed_twice.add(item.path)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the markers `needs` and `cuda` say cannot run here."""
    modules = [name for marker in item.iter_markers("needs") for name in marker.args]
    for reason in map(why_missing, modules):
        if reason:
            pytest.skip(reason)
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, whichever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def logger_levels_are_restored() -> Iterator[None]:
    """Examples silence Lightning for good, and run in this process: later tests read what it says."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "pytorch_lightning", "optuna")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def shipped_predictors_are_read_once() -> Iterator[None]:
    """Tests get copies of a shipped predictor: each callback reads one, `universal` for half a second."""
    read = Predictor.load
    once = functools.lru_cache(maxsize=2)(read)
    shipped = shipped_folder("pretrained_predictors")

    def load(path: str | os.PathLike[str]) -> Predictor:
        return copy.deepcopy(once(path)) if Path(path).parent == shipped else read(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "load", staticmethod(load))
        yield
