"""The command ``nndyn evaluate``: compare all methods on all corpora, and write rows, tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lightning_nndyn.corpus.storage.folder import write_atomically
from lightning_nndyn.errors import PredictorError, renamed_arguments
from lightning_nndyn.evaluation.benchmark import tasks
from lightning_nndyn.evaluation.benchmark.compare import METHODS, TIMES
from lightning_nndyn.evaluation.benchmark.false_stop_tables import false_stop_chapters
from lightning_nndyn.evaluation.benchmark.figures import draw, draw_reliability
from lightning_nndyn.evaluation.benchmark.published_results import (
    published_parts,
    published_tables,
    write_results,
)
from lightning_nndyn.evaluation.benchmark.scores import BANDS, Row
from lightning_nndyn.evaluation.benchmark.tables import (
    DRAWN,
    Table,
    comparison_tables,
    insert_tables,
    results_page,
)
from lightning_nndyn.evaluation.cache import PartCache, Source, Task, run_tasks
from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.evaluation.paper import PAPER_METHODS
from lightning_nndyn.evaluation.paper.features import without_raw_material
from lightning_nndyn.evaluation.paper.figures import draw_paper
from lightning_nndyn.evaluation.paper.published_numbers import subject_of
from lightning_nndyn.evaluation.paper.tables import Subjects, paper_chapters

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

    Writes `results.json` (the rows), `results-parts.json` (which part each of them is from), `results.md`
    (their tables; text around the two marks in an existing file stays), each table as `tables/NAME.csv`
    (tables of an earlier evaluation that do not exist any more are removed), and figures as
    `figures/CORPUS-BAND-METRIC.png` and `figures/CORPUS-paper-KIND.png`.

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
            the code delete it and `results-parts.json`. None: everything is computed, nothing is kept.
        minutes: begin no part after so many; None for no limit.
        on_progress: called with a line about each corpus and each finished part.

    Returns:
        The rows. None if time was up before all parts were finished: nothing is written then.

    Raises:
        CorpusError: a corpus cannot be read.
        PredictorError: a method is unknown, or a corpus has no runs.
        MissingExtraError: pyarrow (for parquet) or matplotlib is not installed.
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
    comparison = [
        task
        for source, name in zip(sources, names, strict=True)
        for task in tasks.comparison_tasks(source, name, compared, times, repeats, seed)
    ]
    others = [*tasks.paper_tasks(sources, names, named, times, seed)]
    if named is None:
        others += tasks.false_stop_tasks(sources, names, seed)
    parts = PartCache.within(cache, minutes)
    parts.add(published_parts(Path(output)))
    rows, late = _rows([*comparison, *others], parts, jobs, on_progress)
    if late:
        on_progress(f"time is up, {late} parts are left: run the same command again to go on")
        return None
    subjects = {runs.name: subject_of(runs) for runs in datasets}
    first, second = ([row for task in some for row in rows[task.key]] for some in (comparison, others))
    _write(first, second, subjects, rows, Path(output))
    return [*first, *second]


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


def _write(
    compared: Sequence[Row],
    others: Sequence[Row],
    subjects: Subjects,
    parts: Mapping[str, Sequence[Row]],
    folder: Path,
) -> None:
    """Write all files.

    Args:
        compared: rows of the comparison.
        others: rows of the paper's experiments and of the false-stop rates.
        subjects: network and data set of each corpus.
        parts: all of these rows, by their keys.
        folder: to write to.
    """
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    false_stops, paper = false_stop_chapters(others), paper_chapters([*compared, *others], subjects)
    tables = [
        *comparison_tables(compared),
        *(one for chapters in (false_stops, paper) for chapter in chapters.values() for one in chapter),
    ]
    _write_tables(tables, folder)
    write_results(parts, [table.name for table in tables], folder)
    page = folder / "results.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    write_atomically(page, insert_tables(text, results_page(compared, false_stops, paper)).encode())
    drawn = {(row.corpus, row.band, row.metric) for row in compared}
    for corpus, band, metric in sorted(drawn):
        if band in BANDS and metric in DRAWN:
            draw(compared, corpus, band, metric, folder / "figures" / f"{corpus}-{band}-{metric}.png")
    draw_paper(others, folder / "figures")
    draw_reliability(others, folder / "figures")


def _write_tables(tables: Sequence[Table], folder: Path) -> None:
    """Write tables, and remove those that an evaluation of other corpora has left."""
    for table in tables:
        write_atomically(folder / "tables" / f"{table.name}.csv", table.csv().encode())
    for name in {*published_tables(folder)} - {table.name for table in tables}:
        (folder / "tables" / f"{name}.csv").unlink(missing_ok=True)
