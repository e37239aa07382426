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
"""

import logging
import os
import socket
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import joblib

from lightning_nndyn.errors import CorpusError, MissingExtraError

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

BACKENDS = ("loky", "ray", "dask")
# By default Dask kills what takes more than its share of memory, and serves its state on port 8787.
_LOCAL_DASK = {"threads_per_worker": 1, "memory_limit": None, "dashboard_address": "127.0.0.1:0"}


def outcomes(
    function: Callable[[Task], Outcome], tasks: Sequence[Task], jobs: int | None = None, backend: str = "loky"
) -> Generator[Outcome, None, None]:
    """What a function returns for each task, as they end, in no order.

    The first exception of a task is raised at once, as it is. Then, and when the generator is closed or
    interrupted, the tasks that have not ended are cancelled, and what was started here is stopped. (On a Dask
    cluster that was there before, runs in training come to their end.)

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
    # joblib's own backends for the clusters do not serve: Ray's cannot return results as they come, and
    # Dask's neither bounds the jobs nor reports a run whose workers keep dying.
    on = {"loky": _on_loky, "ray": _on_ray, "dask": _on_dask}[backend]
    return on(function, tasks, jobs)


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


def _as_they_end(
    submit: Callable[[Task], "Future[Outcome]"], tasks: Iterable[Task], jobs: int | None
) -> Generator[Outcome, None, None]:
    waiting = iter(tasks)
    running = {submit(task) for task in islice(waiting, jobs)}
    while running:
        ended, running = wait(running, return_when=FIRST_COMPLETED)
        running |= {submit(task) for task in islice(waiting, len(ended))}
        for future in ended:
            yield future.result()


def _on_ray(
    function: Callable[[Task], Outcome], tasks: Sequence[Task], jobs: int | None
) -> Generator[Outcome, None, None]:
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "training a corpus on a Ray cluster") from error
    with _ray_connection():
        remote, runs = ray.remote(function), []

        def submit(task: Task) -> "Future[Outcome]":
            runs.append(remote.remote(task))
            future: Future[Outcome] = runs[-1].future()
            return future

        try:
            yield from _as_they_end(submit, tasks, jobs)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            raise _lost("Ray", error) from error
        finally:
            # Not by force: Ray ends this whole process if a task comes back that it has given up by force.
            for run in runs:
                ray.cancel(run)


@contextmanager
def _ray_connection() -> Iterator[None]:
    """A connection to a cluster, closed afterwards unless it was there before, with what it started."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        _check_listening(os.environ.get("RAY_ADDRESS", ""))
        ray.init(include_dashboard=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreachable("Ray", "RAY_ADDRESS", error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_listening(address: str) -> None:
    """Raise OSError if no process listens at host:port. Ray itself tries for more than eight minutes."""
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
        executor = client.get_executor(pure=False)
        try:
            yield from _as_they_end(partial(executor.submit, _alone, function), tasks, jobs)
        except (distributed.KilledWorker, CancelledError) as error:
            raise _lost("Dask", error) from error
        finally:
            executor.shutdown(wait=False)


@contextmanager
def _dask_client(workers: int) -> Iterator[Any]:
    """The process's own client, or one that is closed afterwards, with the cluster it started if any."""
    import distributed

    try:
        client = distributed.get_client()
    except ValueError:
        client = None
    if client is not None:
        yield client
        return
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    options = {} if address else {"n_workers": workers, **_LOCAL_DASK}
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
