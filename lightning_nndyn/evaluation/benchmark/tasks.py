"""The pieces that an evaluation is made of: each gives rows, can have a process of its own, and is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from lightning_nndyn import __version__
from lightning_nndyn.evaluation.benchmark.compare import Row, compare
from lightning_nndyn.evaluation.benchmark.false_stop_rates import (
    joined,
    left_out,
    own_rows,
    split_rows,
    stranger_rows,
)
from lightning_nndyn.evaluation.benchmark.parts import Parts, fingerprint, part_key
from lightning_nndyn.evaluation.benchmark.study import Study
from lightning_nndyn.evaluation.benchmark.transfer import transfer
from lightning_nndyn.evaluation.dataset import Collection
from lightning_nndyn.evaluation.paper.experiments import paper_rows, unseen_rows
from lightning_nndyn.evaluation.paper.features import without_raw_material

Methods = tuple[str, ...] | None


@dataclass(frozen=True)
class Source:
    """A corpus by its path and by what is in it."""

    path: str
    fingerprint: str

    @classmethod
    def of(cls, path: Path | str) -> Source:
        """The corpus as it is now."""
        return cls(str(path), fingerprint(path))


@dataclass(frozen=True)
class Task:
    """A piece of an evaluation.

    Attributes:
        name: for readers; with the settings, it tells a task from all others.
        sources: the corpora that it reads.
        make: gives its rows, of the sources and the settings.
        settings: all else that the rows depend on.
    """

    name: str
    sources: tuple[Source, ...]
    make: Callable[..., Iterable[Row]]
    settings: tuple[Any, ...]

    @property
    def key(self) -> str:
        """The name of the part that it is kept as."""
        return part_key(self.name, self._depends())

    def rows(self, kept: Parts) -> tuple[list[Row], float] | None:
        """Its rows, and the seconds that they took; None where they are not kept and it is too late."""
        part = kept.get(self.name, self._depends(), self._made)
        return None if part is None else ([Row(**row) for row in part["rows"]], part["seconds"])

    def _depends(self) -> str:
        return repr([__version__, [source.fingerprint for source in self.sources], self.settings])

    def _made(self) -> dict[str, Any]:
        return {"rows": [row.to_dict() for row in self.make(self.sources, *self.settings)]}


@dataclass(frozen=True)
class Done:
    """A task that is finished.

    Attributes:
        key: the task's.
        rows: what it gave.
    """

    key: str
    rows: list[Row]


def done(
    tasks: Sequence[Task], kept: Parts, jobs: int, said: Callable[[str], None]
) -> tuple[list[Done], list[Task]]:
    """The finished tasks in their order, and those that were not begun because time was up.

    Args:
        tasks: what there is to do.
        kept: what is finished.
        jobs: processes.
        said: called with a line about each that is finished.
    """
    found: list[Done] = []
    late: list[Task] = []
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    outcomes = parallel(joblib.delayed(task.rows)(kept.only(task.key)) for task in tasks)
    for task, outcome in zip(tasks, outcomes, strict=True):
        if outcome is None:
            late.append(task)
            continue
        rows, seconds = outcome
        found.append(Done(task.key, rows))
        said(f"{task.name}: {len(rows)} numbers ({seconds:.1f} s)")
    return found, late


# -- what there is to do


def comparison(
    source: Source, name: str, methods: Methods, times: Sequence[float], repeats: int, seed: int
) -> Iterator[Task]:
    """Of all methods within a corpus, and on networks, data sets and optimizers that were held out."""
    for time in times:
        yield Task(f"{name}, compared after {time:g}", (source,), _compared, (methods, time, repeats, seed))
    yield Task(f"{name}, kinds held out", (source,), _transferred, (methods, seed))


def paper(
    sources: Sequence[Source], names: Sequence[str], methods: Methods, times: Sequence[float], seed: int
) -> Iterator[Task]:
    """What the paper tabulates and draws, in each corpus and across them."""
    settings = (methods, tuple(times), seed)
    for source, name in zip(sources, names, strict=True):
        yield Task(f"{name}, the paper's tables", (source,), _paper, settings)
    yield Task("networks held out, the paper's classifiers", tuple(sources), _unseen, settings)


def promises(sources: Sequence[Source], names: Sequence[str], seed: int) -> Iterator[Task]:
    """Whether predictors keep what they promise.

    - False and true stop rates over 200 random splits of each corpus, see `split_rows`;
    - the same, and how much is told to be strange, where a population or an optimizer was left out of a
      predictor over all corpora, see `stranger_rows`;
    - predictors of 30 runs of one's own against that over all other corpora, see `own_rows`: with the rows
      before, where nothing but the corpus was left out, as fitting that predictor is most of the work.
    """
    together = tuple(sources)
    for source, name in zip(sources, names, strict=True):
        yield Task(f"{name}, runs stopped", (source,), _split, (seed,))
    alone = dict(enumerate(names))
    for band, out in left_out(_union(together)):
        own = next((number for number in alone if _is_all(together, number, out)), None)
        if own is not None:
            del alone[own]
        yield Task(f"universal {band}", together, _stranger, (band, own, seed))
    for number, name in alone.items():
        yield Task(f"{name}, runs of one's own", together, _own, (number, seed))


def _is_all(sources: tuple[Source, ...], number: int, out: NDArray[np.bool_]) -> bool:
    """Whether these runs are those on the networks and data of one corpus, and no others."""
    own = np.unique(_collections(sources)[number].populations)
    return np.array_equal(np.isin(_union(sources).populations, own), out)


# -- how it is done; what was read last stays in memory, as tasks on the same corpus follow each other


def _compared(
    sources: tuple[Source], methods: Methods, time: float, repeats: int, seed: int
) -> Iterable[Row]:
    return compare(_study(*sources), methods=methods, times=[time], repeats=repeats, seed=seed)


def _transferred(sources: tuple[Source], methods: Methods, seed: int) -> Iterable[Row]:
    return transfer(_study(*sources), methods=methods, seed=seed)


def _paper(sources: tuple[Source], methods: Methods, times: Sequence[float], seed: int) -> Iterable[Row]:
    return paper_rows(_slim(*sources), methods=methods, times=times, seed=seed, jobs=1)


def _unseen(
    sources: tuple[Source, ...], methods: Methods, times: Sequence[float], seed: int
) -> Iterable[Row]:
    return unseen_rows([_slim(one) for one in sources], methods=methods, times=times, seed=seed, jobs=1)


def _split(sources: tuple[Source, ...], seed: int) -> Iterable[Row]:
    return split_rows(_collections(sources)[0], seed)


def _stranger(sources: tuple[Source, ...], band: str, number: int | None, seed: int) -> Iterable[Row]:
    union, own = _union(sources), None if number is None else _collections(sources)[number]
    return stranger_rows(union, dict(left_out(union))[band], band, own, seed)


def _own(sources: tuple[Source, ...], number: int, seed: int) -> Iterable[Row]:
    return own_rows(_union(sources), _collections(sources)[number], seed=seed)


@lru_cache(maxsize=1)
def _study(source: Source) -> Study:
    return Study.load(source.path)


def _slim(source: Source) -> Study:
    return without_raw_material(_study(source))


@lru_cache(maxsize=1)
def _collections(sources: tuple[Source, ...]) -> list[Collection]:
    return [Collection.load([source.path]) for source in sources]


@lru_cache(maxsize=1)
def _union(sources: tuple[Source, ...]) -> Collection:
    return joined(_collections(sources))
