"""The tasks of an evaluation: each gives rows, from corpora and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any

import numpy as np

from lightning_nndyn import __version__
from lightning_nndyn.evaluation.benchmark.compare import compare
from lightning_nndyn.evaluation.benchmark.false_stop_rates import left_out, own_rows, split_rows, unknown_rows
from lightning_nndyn.evaluation.benchmark.judged_runs import UNIVERSAL
from lightning_nndyn.evaluation.benchmark.scores import Row
from lightning_nndyn.evaluation.benchmark.transfer import transfer
from lightning_nndyn.evaluation.cache import Part, Source, Task
from lightning_nndyn.evaluation.dataset import RunDataset, concatenate
from lightning_nndyn.evaluation.paper import paper_rows, unseen_rows
from lightning_nndyn.evaluation.paper.features import without_raw_material
from lightning_nndyn.signature.snapshot import Mask

Methods = tuple[str, ...] | None
Sources = tuple[Source, ...]


def comparison_tasks(
    source: Source, name: str, methods: Methods, times: Sequence[float], repeats: int, seed: int
) -> Iterator[Task]:
    """Comparisons of all methods within a corpus, and on networks, data sets and optimizers held out."""
    for time in times:
        yield _task(f"{name}, compared after {time:g}", (source,), _compare, methods, time, repeats, seed)
    yield _task(f"{name}, kinds held out", (source,), _transfer, methods, seed)


def paper_tasks(
    sources: Sequence[Source], names: Sequence[str], methods: Methods, times: Sequence[float], seed: int
) -> Iterator[Task]:
    """The paper's experiments in each corpus and across them."""
    settings = (methods, tuple(times), seed)
    for source, name in zip(sources, names, strict=True):
        yield _task(f"{name}, the paper's tables", (source,), _paper, *settings)
    yield _task("networks held out, the paper's classifiers", tuple(sources), _unseen, *settings)


def false_stop_tasks(sources: Sequence[Source], names: Sequence[str], seed: int) -> Iterator[Task]:
    """Tests of the promised false-stop rate, see `split_rows`, `unknown_rows` and `own_rows`.

    A corpus that is left out alone has its `own_rows` in the task of `unknown_rows`, as both need the same
    predictor, and fitting it is most of the work.
    """
    together = tuple(sources)
    for source, name in zip(sources, names, strict=True):
        yield _task(f"{name}, runs stopped", (source,), _split, seed)
    remaining = dict(enumerate(names))
    for band, out in left_out(_union(together)):
        number = next((number for number in remaining if _consists_of(together, number, out)), None)
        if number is not None:
            del remaining[number]
        yield _task(f"universal {band}", together, _unknown, band, number, seed)
    for number, name in remaining.items():
        yield _task(f"{name}, runs of one's own", together, _own, number, seed)


def _consists_of(sources: Sources, number: int, out: Mask) -> bool:
    """Whether the runs in a mask are those on the populations of one corpus, and no others."""
    own = np.unique(_datasets(sources)[number].populations)
    return np.array_equal(np.isin(_union(sources).populations, own), out)


def _task(name: str, sources: Sources, compute: Callable[..., Iterable[Row]], *settings: Any) -> Task:
    """A task whose rows a function of this module computes: other processes must find it."""
    depends_on = repr([__version__, [source.fingerprint for source in sources], settings])
    return Task(name, depends_on, partial(_part, compute, sources, settings))


def _part(compute: Callable[..., Iterable[Row]], sources: Sources, settings: tuple[Any, ...]) -> Part:
    return {"rows": [asdict(row) for row in compute(sources, *settings)]}


def _compare(sources: Sources, methods: Methods, time: float, repeats: int, seed: int) -> Iterable[Row]:
    return compare(_dataset(*sources), methods=methods, times=[time], repeats=repeats, seed=seed)


def _transfer(sources: Sources, methods: Methods, seed: int) -> Iterable[Row]:
    return transfer(_dataset(*sources), methods=methods, seed=seed)


def _paper(sources: Sources, methods: Methods, times: Sequence[float], seed: int) -> Iterable[Row]:
    return paper_rows(without_raw_material(_dataset(*sources)), methods=methods, times=times, seed=seed)


def _unseen(sources: Sources, methods: Methods, times: Sequence[float], seed: int) -> Iterable[Row]:
    corpora = [without_raw_material(_dataset(source)) for source in sources]
    return unseen_rows(corpora, methods=methods, times=times, seed=seed)


def _split(sources: Sources, seed: int) -> Iterable[Row]:
    return split_rows(_dataset(*sources), seed)


def _unknown(sources: Sources, band: str, number: int | None, seed: int) -> Iterable[Row]:
    union, own = _union(sources), None if number is None else _datasets(sources)[number]
    return unknown_rows(union, dict(left_out(union))[band], band, own, seed)


def _own(sources: Sources, number: int, seed: int) -> Iterable[Row]:
    return own_rows(_union(sources), _datasets(sources)[number], seed=seed)


# What was read last stays in memory, as tasks on the same corpora follow each other.


@lru_cache(maxsize=1)
def _dataset(source: Source) -> RunDataset:
    return RunDataset.load(source.path)


@lru_cache(maxsize=1)
def _datasets(sources: Sources) -> list[RunDataset]:
    return [RunDataset.load(source.path) for source in sources]


@lru_cache(maxsize=1)
def _union(sources: Sources) -> RunDataset:
    return concatenate(_datasets(sources), UNIVERSAL)
