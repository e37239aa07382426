"""The command ``nndyn evaluate``: all corpora, all methods, all files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_nndyn.corpus.store import write_atomically
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation.compare import BANDS, METHODS, TIMES, Row, compare
from lightning_nndyn.evaluation.results import draw, report, write_rows
from lightning_nndyn.evaluation.study import Study
from lightning_nndyn.evaluation.transfer import transfer

_BEGIN, _END = "<!-- begin tables -->", "<!-- end tables -->"
_DRAWN = ("mae", "spearman")


def evaluate(
    corpora: Sequence[Path | str],
    output: Path | str,
    *,
    methods: Sequence[str] | None = None,
    times: Sequence[float] = TIMES,
    repeats: int = 3,
    seed: int = 0,
    jobs: int = 1,
    said: Callable[[str], None] = lambda message: None,
) -> list[Row]:
    """Compare methods on corpora and write what came out; the same arguments give the same files.

    Within each corpus, and where it has several data sets, optimizers or kinds of network, also on those that
    were held out.

    Writes `results.json` (the rows), `results.md` (its tables; text around the two marks in an existing file
    stays), and `figures/CORPUS-BAND-METRIC.png`.

    Args:
        corpora: corpus folders or parquet files.
        output: folder to write to.
        methods: names from `METHODS`; None for all.
        times: of decision, in epochs.
        repeats: of the cross-validation.
        seed: of folds, learners and intervals.
        jobs: processes.
        said: called with a line about each corpus before its runs are worked through.

    Raises:
        CorpusError: a corpus cannot be read.
        PredictorError: a method is unknown, or a corpus has no runs.
        MissingExtraError: pyarrow (for parquet) or matplotlib is not installed.
    """
    for method in methods or ():
        if method not in METHODS:
            raise PredictorError(f"no method {method!r}: choose from {', '.join(METHODS)}")
    rows: list[Row] = []
    for corpus in corpora:
        study = Study.load(corpus)
        said(f"{study.name}: {len(study.records)} runs, {int(study.trainable.sum())} of them trainable")
        rows += compare(study, methods=methods, times=times, repeats=repeats, seed=seed, jobs=jobs)
        rows += transfer(study, methods=methods, seed=seed, jobs=jobs)
    _write(rows, Path(output))
    return rows


def _write(rows: Sequence[Row], folder: Path) -> None:
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    write_rows(rows, folder / "results.json")
    page = folder / "results.md"
    text = with_tables(page.read_text() if page.exists() else "", report(rows))
    write_atomically(page, text.encode())
    drawn = {(row.corpus, row.band, row.metric) for row in rows if row.band in BANDS and row.metric in _DRAWN}
    for corpus, band, metric in sorted(drawn):
        draw(rows, corpus, band, metric, figures / f"{corpus}-{band}-{metric}.png")


def with_tables(page: str, tables: str) -> str:
    """A page with the tables between its marks, or at its end where it has none."""
    before, _, rest = page.partition(_BEGIN)
    after = rest.partition(_END)[2]
    return f"{before}{_BEGIN}\n\n{tables}\n\n{_END}{after or chr(10)}"
