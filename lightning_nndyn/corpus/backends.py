"""Where the runs of a corpus are trained: in processes of this machine, or on a Ray or a Dask cluster.

- `loky`: joblib's processes on this machine.
- `ray`: the cluster that `RAY_ADDRESS` names, else the one that runs on this machine, else one started for
  the occasion on all its cores.
- `dask`: the cluster of the process's own `distributed.Client`, else the one that `DASK_SCHEDULER_ADDRESS`
  names, else one started for the occasion on all cores of this machine. Workers need one thread each: a run
  draws from the random numbers of its process.

On a cluster the corpus folder must lie on a file system that all workers see under the same path, and this
package must be installed there in the same version. A worker that dies loses only the run it trained, which
is then trained again elsewhere. A script that has a Dask cluster started needs `if __name__ == "__main__":`.
Ray reports its usage to its makers unless RAY_USAGE_STATS_ENABLED=0.

joblib is no front for the clusters: its Ray backend cannot hand over results as they come, and its Dask
backend takes no number of jobs.
"""

import logging
import os
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, TypeVar

import joblib

from lightning_nndyn.errors import CorpusError, MissingExtraError

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

BACKENDS = ("loky", "ray", "dask")
# By default Dask kills what takes more than its share of memory, and serves its state on port 8787.
_LOCAL = {"memory_limit": None, "dashboard_address": "127.0.0.1:0"}


def outcomes(
    function: Callable[[Task], Outcome], tasks: Sequence[Task], jobs: int | None = None, backend: str = "loky"
) -> Generator[Outcome, None, None]:
    """What a function returns for each task, as they end, in no order.

    The first exception of a task is raised at once, as it is. Then, and when the generator is closed or
    interrupted, what is in training is given up and what was started here is stopped. (On a Dask cluster that
    was there before, the runs in training come to their end.)

    Args:
        function: Of a module that the workers can import.
        tasks: Its arguments; small, they are sent.
        jobs: At most that many at once; None for one a core of this machine, or of the cluster.
        backend: "loky", "ray" or "dask".

    Raises:
        CorpusError: There is no such backend, the cluster cannot be reached, its workers are not fit for this
            or keep dying.
        MissingExtraError: ray or distributed is needed and not installed.
    """
    check_backend(backend)
    if backend == "ray":
        return _on_ray(function, tasks, jobs)
    if backend == "dask":
        return _on_dask(function, tasks, jobs)
    return _on_loky(function, tasks, jobs)


def check_backend(backend: str) -> None:
    """Raise CorpusError unless it is one of `BACKENDS`."""
    if backend not in BACKENDS:
        raise CorpusError(f"there is no backend {backend!r}: choose one of {', '.join(BACKENDS)}")


def _workers(jobs: int | None, tasks: Sequence[Any]) -> int:
    return min(jobs or joblib.cpu_count(), max(len(tasks), 1))


def _on_loky(
    function: Callable[[Task], Outcome], tasks: Sequence[Task], jobs: int | None
) -> Generator[Outcome, None, None]:
    parallel = joblib.Parallel(_workers(jobs, tasks), backend="loky", return_as="generator_unordered")
    yield from parallel(joblib.delayed(function)(task) for task in tasks)


def _on_ray(
    function: Callable[[Task], Outcome], tasks: Sequence[Task], jobs: int | None
) -> Generator[Outcome, None, None]:
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "training a corpus on a Ray cluster") from error
    with _ray_cluster() as ours:
        remote, waiting = ray.remote(function), iter(tasks)
        running = [remote.remote(task) for task in islice(waiting, jobs)]
        try:
            while running:
                (ended,), running = ray.wait(running)
                running += [remote.remote(task) for task in islice(waiting, 1)]
                yield ray.get(ended)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            raise _lost("Ray", error) from error
        finally:
            # Not by force: Ray ends this whole process if a task comes back that it has given up by force.
            for run in () if ours else running:
                ray.cancel(run)


@contextmanager
def _ray_cluster() -> Iterator[bool]:
    """A connection to a cluster, closed afterwards unless it was there before; whether it goes with it."""
    import ray

    if ray.is_initialized():
        yield False
        return
    before = _descendants()
    try:
        _knock(os.environ.get("RAY_ADDRESS", ""))
        ray.init(include_dashboard=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreachable("Ray", "RAY_ADDRESS", error) from error
    begun = _descendants() - before
    try:
        yield bool(begun)
    finally:
        begun |= {child for process in begun for child in _descendants(process)}
        try:
            ray.shutdown()
        finally:
            _end(begun)


def _descendants(process: Any = None) -> set[Any]:
    """The processes that this one, or another, has begun and that they have begun."""
    import psutil  # Ray brings it along

    try:
        return set((process or psutil.Process()).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def _end(processes: set[Any], patience: float = 5) -> None:
    """Kill what has not ended by itself: Ray's agents look for a minute for a head that is gone."""
    import psutil

    _, left = psutil.wait_procs(processes, timeout=patience)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _on_dask(
    function: Callable[[Task], Outcome], tasks: Sequence[Task], jobs: int | None
) -> Generator[Outcome, None, None]:
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError("distributed", "dask", "training a corpus on a Dask cluster") from error
    with _dask_client(_workers(jobs, tasks)) as client:
        waiting = iter(tasks)
        running = {client.submit(_alone, function, task, pure=False) for task in islice(waiting, jobs)}
        ending = distributed.as_completed(running, loop=client.loop)
        try:
            for ended in ending:
                running.remove(ended)
                for task in islice(waiting, 1):
                    run = client.submit(_alone, function, task, pure=False)
                    running.add(run)
                    ending.add(run)
                yield ended.result()
        except (distributed.KilledWorker, distributed.CancelledError) as error:
            raise _lost("Dask", error) from error
        finally:
            client.cancel(list(running))


@contextmanager
def _dask_client(workers: int) -> Iterator[Any]:
    """The process's own client, or one that is closed afterwards, with the cluster it started if any."""
    import distributed

    try:
        own = distributed.get_client()
    except ValueError:
        own = None
    if own is not None:
        yield own
        return
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    options = {} if address else {"n_workers": workers, "threads_per_worker": 1} | _LOCAL
    try:
        client = distributed.Client(address, set_as_default=False, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreachable("Dask", "DASK_SCHEDULER_ADDRESS", error) from error
    with client:
        yield client


def _alone(function: Callable[[Task], Outcome], task: Task) -> Outcome:
    """Call a function on a Dask worker, if that runs nothing else in the same process."""
    import distributed

    worker = distributed.get_worker()
    if worker.state.nthreads > 1:
        raise CorpusError(
            f"the Dask worker {worker.address} runs {worker.state.nthreads} tasks at once in one process, "
            "and a run needs one of its own: start workers with --nthreads 1 (and --nworkers as cores), or "
            "the client with threads_per_worker=1"
        )
    return function(task)


def _unreachable(name: str, variable: str, error: Exception) -> CorpusError:
    address = os.environ.get(variable)
    where = f"at {variable}={address!r}" if address else "on this machine"
    return CorpusError(
        f"no {name} cluster can be reached or started {where} ({error}): set {variable} to the address of "
        "one that runs, or unset it to have one started"
    )


def _lost(name: str, error: Exception) -> CorpusError:
    return CorpusError(
        f"the {name} cluster gave up a run ({type(error).__name__}: {error}): see whether its workers run "
        "out of memory, and give the same command again to go on"
    )
