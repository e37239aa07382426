"""The tasks that an evaluation consists of: each gives rows, may run in its own process, and is cached."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from lightning_nndyn import __version__
from lightning_nndyn.evaluation.benchmark.compare import compare
from lightning_nndyn.evaluation.benchmark.false_stop_rates import left_out, split_rows, unknown_rows
from lightning_nndyn.evaluation.benchmark.few_own_runs import own_rows
from lightning_nndyn.evaluation.benchmark.judged_runs import UNIVERSAL
from lightning_nndyn.evaluation.benchmark.rows import Row
from lightning_nndyn.evaluation.benchmark.transfer import transfer
from lightning_nndyn.evaluation.cache import Part, PartCache, fingerprint, part_key
from lightning_nndyn.evaluation.dataset import RunDataset, concatenate
from lightning_nndyn.evaluation.paper import paper_rows, unseen_rows
from lightning_nndyn.evaluation.paper.features import without_raw_material
from lightning_nndyn.signature.snapshot import Mask

Methods = tuple[str, ...] | None


@dataclass(frozen=True)
class Source:
    """A corpus by its path and its content."""

    path: str
    fingerprint: str

    @classmethod
    def at(cls, path: Path | str) -> Source:
        """The corpus as it is now."""
        return cls(str(path), fingerprint(path))


@dataclass(frozen=True)
class EvaluationTask:
    """A piece of an evaluation.

    Attributes:
        name: for readers. With the settings it makes the task's key, by which published rows are recognised:
            a changed name means that they are computed again.
        sources: the corpora that it reads.
        compute: gives its rows, from the sources and the settings.
        settings: everything else that the rows depend on.
    """

    name: str
    sources: tuple[Source, ...]
    compute: Callable[..., Iterable[Row]]
    settings: tuple[Any, ...]

    @property
    def key(self) -> str:
        """The name of its part in the cache."""
        return part_key(self.name, self._depends_on())

    def run(self, cache: PartCache) -> Part | None:
        """Its rows as a part, from the cache or computed; None where it is not there and time is up."""
        return cache.get(self.name, self._depends_on(), self._part)

    def _depends_on(self) -> str:
        return repr([__version__, [source.fingerprint for source in self.sources], self.settings])

    def _part(self) -> Part:
        return {"rows": [row.to_dict() for row in self.compute(self.sources, *self.settings)]}


@dataclass(frozen=True)
class FinishedTask:
    """The key of a task, and its rows."""

    key: str
    rows: list[Row]


def run_tasks(
    tasks: Sequence[EvaluationTask], cache: PartCache, jobs: int, on_progress: Callable[[str], None]
) -> tuple[list[FinishedTask], list[EvaluationTask]]:
    """Run tasks until time is up.

    Args:
        tasks: in the order in which they are wanted.
        cache: where finished tasks are kept, with the deadline.
        jobs: number of processes.
        on_progress: called with a line about each finished task.

    Returns:
        The finished tasks in their order, and those that were not begun because time was up.
    """
    finished: list[FinishedTask] = []
    late: list[EvaluationTask] = []
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    for task, part in zip(tasks, parallel(joblib.delayed(task.run)(cache) for task in tasks), strict=True):
        if part is None:
            late.append(task)
            continue
        rows = [Row(**row) for row in part["rows"]]
        finished.append(FinishedTask(task.key, rows))
        on_progress(f"{task.name}: {len(rows)} numbers ({part['seconds']:.1f} s)")
    return finished, late


# -- which tasks there are


def comparison_tasks(
    source: Source, name: str, methods: Methods, times: Sequence[float], repeats: int, seed: int
) -> Iterator[EvaluationTask]:
    """Comparisons of all methods within a corpus, and on networks, data sets and optimizers held out."""
    for time in times:
        yield EvaluationTask(
            f"{name}, compared after {time:g}", (source,), _compare, (methods, time, repeats, seed)
        )
    yield EvaluationTask(f"{name}, kinds held out", (source,), _transfer, (methods, seed))


def paper_tasks(
    sources: Sequence[Source], names: Sequence[str], methods: Methods, times: Sequence[float], seed: int
) -> Iterator[EvaluationTask]:
    """The paper's experiments in each corpus and across them."""
    settings = (methods, tuple(times), seed)
    for source, name in zip(sources, names, strict=True):
        yield EvaluationTask(f"{name}, the paper's tables", (source,), _paper, settings)
    yield EvaluationTask("networks held out, the paper's classifiers", tuple(sources), _unseen, settings)


def false_stop_tasks(sources: Sequence[Source], names: Sequence[str], seed: int) -> Iterator[EvaluationTask]:
    """Tests of the promised false-stop rate, see `split_rows`, `unknown_rows` and `own_rows`.

    A corpus that is left out alone has its `own_rows` in the task of `unknown_rows`, as both need the same
    predictor, and fitting it is most of the work.
    """
    together = tuple(sources)
    for source, name in zip(sources, names, strict=True):
        yield EvaluationTask(f"{name}, runs stopped", (source,), _split, (seed,))
    remaining = dict(enumerate(names))
    for band, out in left_out(_union(together)):
        number = next((number for number in remaining if _consists_of(together, number, out)), None)
        if number is not None:
            del remaining[number]
        yield EvaluationTask(f"universal {band}", together, _unknown, (band, number, seed))
    for number, name in remaining.items():
        yield EvaluationTask(f"{name}, runs of one's own", together, _own, (number, seed))


def _consists_of(sources: tuple[Source, ...], number: int, out: Mask) -> bool:
    """Whether the runs in a mask are those on the populations of one corpus, and no others."""
    own = np.unique(_datasets(sources)[number].populations)
    return np.array_equal(np.isin(_union(sources).populations, own), out)


# -- how they are computed; functions of a module, as other processes must find them


def _compare(sources: tuple[Source], methods: Methods, time: float, repeats: int, seed: int) -> Iterable[Row]:
    return compare(_dataset(*sources), methods=methods, times=[time], repeats=repeats, seed=seed)


def _transfer(sources: tuple[Source], methods: Methods, seed: int) -> Iterable[Row]:
    return transfer(_dataset(*sources), methods=methods, seed=seed)


def _paper(sources: tuple[Source], methods: Methods, times: Sequence[float], seed: int) -> Iterable[Row]:
    runs = without_raw_material(_dataset(*sources))
    return paper_rows(runs, methods=methods, times=times, seed=seed, jobs=1)


def _unseen(
    sources: tuple[Source, ...], methods: Methods, times: Sequence[float], seed: int
) -> Iterable[Row]:
    corpora = [without_raw_material(_dataset(source)) for source in sources]
    return unseen_rows(corpora, methods=methods, times=times, seed=seed, jobs=1)


def _split(sources: tuple[Source, ...], seed: int) -> Iterable[Row]:
    return split_rows(_dataset(*sources), seed)


def _unknown(sources: tuple[Source, ...], band: str, number: int | None, seed: int) -> Iterable[Row]:
    union, own = _union(sources), None if number is None else _datasets(sources)[number]
    return unknown_rows(union, dict(left_out(union))[band], band, own, seed)


def _own(sources: tuple[Source, ...], number: int, seed: int) -> Iterable[Row]:
    return own_rows(_union(sources), _datasets(sources)[number], seed=seed)


# What was read last stays in memory, as tasks on the same corpora follow each other.


@lru_cache(maxsize=1)
def _dataset(source: Source) -> RunDataset:
    return RunDataset.load(source.path)


@lru_cache(maxsize=1)
def _datasets(sources: tuple[Source, ...]) -> list[RunDataset]:
    return [RunDataset.load(source.path) for source in sources]


@lru_cache(maxsize=1)
def _union(sources: tuple[Source, ...]) -> RunDataset:
    return concatenate(_datasets(sources), UNIVERSAL)
