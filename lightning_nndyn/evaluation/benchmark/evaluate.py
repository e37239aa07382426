"""The command ``nndyn evaluate``: all corpora, all methods, all files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from lightning_nndyn.corpus.storage.folder import write_atomically
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation.benchmark import tasks
from lightning_nndyn.evaluation.benchmark.cache import known_parts, known_tables, write_parts
from lightning_nndyn.evaluation.benchmark.compare import BANDS, METHODS, TIMES, Row
from lightning_nndyn.evaluation.benchmark.false_stop_tables import (
    draw_reliability,
    trust_chapters,
    trust_report,
)
from lightning_nndyn.evaluation.benchmark.parts import Parts
from lightning_nndyn.evaluation.benchmark.study import Study
from lightning_nndyn.evaluation.benchmark.tables import DRAWN, Table, draw, report, tables
from lightning_nndyn.evaluation.paper.experiments import PAPER_METHODS
from lightning_nndyn.evaluation.paper.features import without_raw_material
from lightning_nndyn.evaluation.paper.figures import draw_paper
from lightning_nndyn.evaluation.paper.published_numbers import subject_of
from lightning_nndyn.evaluation.paper.tables import Subjects, chapters, paper_report

_BEGIN, _END = "<!-- begin tables -->", "<!-- end tables -->"


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
    said: Callable[[str], None] = lambda message: None,
) -> list[Row] | None:
    """Compare methods on corpora and write what came out; the same arguments give the same files.

    Within each corpus, and where it has several data sets, optimizers or kinds of network, also on those that
    were held out. Beside that, what the paper tabulates and draws, by its own means; and, where no methods
    are named, whether predictors keep what they promise.

    Writes `results.json` (the rows), `results-parts.json` (which part each of them is from), `results.md`
    (its tables; text around the two marks in an existing file stays), each table as `tables/NAME.csv` (those
    of an evaluation before that are no more are removed), and figures as `figures/CORPUS-BAND-METRIC.png` and
    `figures/CORPUS-paper-KIND.png`.

    Args:
        corpora: corpus folders or parquet files.
        output: folder to write to.
        methods: names from `METHODS` and `PAPER_METHODS`; None for all.
        times: of decision, in epochs.
        repeats: of the cross-validation; the paper's methods get one.
        seed: of folds, learners and intervals.
        jobs: processes.
        cache: folder for finished parts, so that an evaluation that was cut goes on. With one, what the
            results in `output` have of the same corpora and settings is not computed again either: a corpus
            more costs what is new alone. After a change of the code delete it and `results-parts.json`. None:
            all is computed, nothing is kept.
        minutes: begin no part after so many; None for no end.
        said: called with a line about each corpus and each part that is finished.

    Returns:
        The rows. None if time was up before all parts were finished: nothing is written then.

    Raises:
        CorpusError: a corpus cannot be read.
        PredictorError: a method is unknown, or a corpus has no runs.
        MissingExtraError: pyarrow (for parquet) or matplotlib is not installed.
    """
    compared, named = _compared(methods), None if methods is None else tuple(methods)
    studies: list[Study] = []
    for corpus in corpora:
        study = Study.load(corpus)
        said(f"{study.name}: {len(study.records)} runs, {int(study.trainable.sum())} of them trainable")
        studies.append(without_raw_material(study))
    sources, names = [tasks.Source.of(corpus) for corpus in corpora], [study.name for study in studies]
    wanted = [
        task
        for source, name in zip(sources, names, strict=True)
        for task in tasks.comparison(source, name, compared, times, repeats, seed)
    ]
    beside = [*tasks.paper(sources, names, named, times, seed)]
    if methods is None:
        beside += tasks.promises(sources, names, seed)
    kept = Parts.within(cache, minutes)
    if cache is not None:
        kept = replace(kept, known=known_parts(Path(output)))
    parts, late = tasks.done(wanted, kept, jobs, said)
    parts_beside, late_beside = tasks.done(beside, kept, jobs, said)
    if late or late_beside:
        left = len(late) + len(late_beside)
        said(f"time is up, {left} parts are left: run the same command again to go on")
        return None
    subjects = {study.name: subject_of(study) for study in studies}
    _write(parts, parts_beside, subjects, Path(output))
    return [*_rows(parts), *_rows(parts_beside)]


def _rows(parts: Sequence[tasks.Done]) -> list[Row]:
    return [row for part in parts for row in part.rows]


def _compared(methods: Sequence[str] | None) -> tuple[str, ...] | None:
    """The methods that are compared; None for all."""
    for method in methods or ():
        if method not in METHODS and method not in PAPER_METHODS:
            raise PredictorError(f"no method {method!r}: choose from {', '.join((*METHODS, *PAPER_METHODS))}")
    return None if methods is None else tuple(method for method in methods if method in METHODS)


def _write(
    parts: Sequence[tasks.Done], parts_beside: Sequence[tasks.Done], subjects: Subjects, folder: Path
) -> None:
    """Write all files, of the comparison's parts and of those beside the paper's tables and figures."""
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows, beside = _rows(parts), _rows(parts_beside)
    papers, trust = chapters([*rows, *beside], subjects), trust_chapters(beside)
    written = [*tables(rows), *(table for chapter in (*trust, *papers) for table in chapter.tables)]
    _write_tables(written, folder)
    write_parts([*parts, *parts_beside], [table.name for table in written], folder)
    page = folder / "results.md"
    told = "\n\n".join(filter(None, (report(rows), trust_report(trust), paper_report(papers))))
    text = with_tables(page.read_text() if page.exists() else "", told)
    write_atomically(page, text.encode())
    drawn = {(row.corpus, row.band, row.metric) for row in rows if row.band in BANDS and row.metric in DRAWN}
    for corpus, band, metric in sorted(drawn):
        draw(rows, corpus, band, metric, folder / "figures" / f"{corpus}-{band}-{metric}.png")
    draw_paper(beside, folder / "figures")
    draw_reliability(beside, folder / "figures")


def _write_tables(written: Sequence[Table], folder: Path) -> None:
    """Write them, and remove those that an evaluation of other corpora has left."""
    for table in written:
        write_atomically(folder / "tables" / f"{table.name}.csv", table.csv().encode())
    for name in {*known_tables(folder)} - {table.name for table in written}:
        (folder / "tables" / f"{name}.csv").unlink(missing_ok=True)


def with_tables(page: str, tables: str) -> str:
    """A page with the tables between its marks, or at its end where it has none."""
    before, _, rest = page.partition(_BEGIN)
    after = rest.partition(_END)[2]
    return f"{before}{_BEGIN}\n\n{tables}\n\n{_END}{after or chr(10)}"
