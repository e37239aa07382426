"""The command ``nndyn evaluate``: compare all methods on all corpora, and write rows and a summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_nndyn.errors import PredictorError, renamed_arguments
from lightning_nndyn.evaluation.benchmark import tasks
from lightning_nndyn.evaluation.benchmark.compare import METHODS, TIMES
from lightning_nndyn.evaluation.benchmark.results import published_parts, write_results, write_summary
from lightning_nndyn.evaluation.benchmark.scores import Row
from lightning_nndyn.evaluation.cache import PartCache, Source, Task, run_tasks
from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.evaluation.paper import PAPER_METHODS
from lightning_nndyn.evaluation.paper.features import without_raw_material

Progress = Callable[[str], None]


@renamed_arguments(said="on_progress")
def evaluate(
    corpora: Sequence[Path | str],
    output: Path | str,
    *,
    methods: Sequence[str] | None = None,
    times: Sequence[float] = TIMES,
    repeats: int = 3,
    seed: int = 0,
    jobs: int = 1,
    cache: Path | str | None = None,
    minutes: float | None = None,
    on_progress: Progress = lambda message: None,
) -> list[Row] | None:
    """Compare methods on corpora and write the results; the same arguments give the same files.

    Methods are compared within each corpus and, where it has several data sets, optimizers or kinds of
    network, also on those that were held out. Besides, the paper's experiments are repeated with the paper's
    own methods; and, unless methods are named, the promised false-stop rate is tested.

    Writes `predictions.parquet` (the rows, each with the key of the part that it is from) and a summary:
    `predictions.md`, with a figure for each corpus.

    Args:
        corpora: corpus folders or parquet files.
        output: folder to write to.
        methods: names from `METHODS` and `PAPER_METHODS`; None for all.
        times: decision times, in epochs.
        repeats: number of cross-validations; the paper's methods get one.
        seed: of folds, learners and intervals.
        jobs: number of processes.
        cache: folder for finished parts, with which an interrupted evaluation continues. Parts of the results
            in `output` are taken into it: with another corpus only what is new is computed. After a change of
            the code delete it and `predictions.parquet`. None: everything is computed, nothing is kept.
        minutes: begin no part after so many; None for no limit.
        on_progress: called with a line about each corpus and each finished part.

    Returns:
        The rows. None if time was up before all parts were finished: nothing is written then.

    Raises:
        CorpusError: a corpus cannot be read.
        PredictorError: a method is unknown, or a corpus has no runs.
        MissingExtraError: pyarrow or matplotlib is not installed.
    """
    _check_methods(methods)
    datasets = []
    for corpus in corpora:
        runs = RunDataset.load(corpus)
        on_progress(f"{runs.name}: {len(runs.records)} runs, {int(runs.trainable.sum())} of them trainable")
        datasets.append(without_raw_material(runs))
    sources, names = [Source.at(corpus) for corpus in corpora], [runs.name for runs in datasets]
    named = None if methods is None else tuple(methods)
    compared = None if named is None else tuple(method for method in named if method in METHODS)
    wanted = [
        task
        for source, name in zip(sources, names, strict=True)
        for task in tasks.comparison_tasks(source, name, compared, times, repeats, seed)
    ]
    wanted += tasks.paper_tasks(sources, names, named, times, seed)
    if named is None:
        wanted += tasks.false_stop_tasks(sources, names, seed)
    parts = PartCache.within(cache, minutes)
    parts.add(published_parts(Path(output)))
    rows, late = _rows(wanted, parts, jobs, on_progress)
    if late:
        on_progress(f"time is up, {late} parts are left: run the same command again to go on")
        return None
    found = [row for part in rows.values() for row in part]
    write_results(rows, Path(output))
    write_summary(found, Path(output))
    return found


def _check_methods(methods: Sequence[str] | None) -> None:
    for method in methods or ():
        if method not in METHODS and method not in PAPER_METHODS:
            raise PredictorError(f"no method {method!r}: choose from {', '.join((*METHODS, *PAPER_METHODS))}")


def _rows(
    wanted: Sequence[Task], cache: PartCache, jobs: int, on_progress: Progress
) -> tuple[dict[str, list[Row]], int]:
    """The rows of each task by its key, and the number of tasks that were too late."""
    rows, late = {}, 0
    for task, part in zip(wanted, run_tasks(wanted, cache, jobs), strict=True):
        if part is None:
            late += 1
            continue
        rows[task.key] = [Row(**row) for row in part["rows"]]
        on_progress(f"{task.name}: {len(rows[task.key])} numbers ({part['seconds']:.1f} s)")
    return rows, late
