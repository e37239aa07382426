"""What an evaluation of predictions leaves: a file of rows, and a short summary of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from lightning_nndyn.corpus.storage.folder import write_atomically
from lightning_nndyn.evaluation.benchmark.false_stop_rates import AS_SHIPPED, FALSE_STOPS, TRUE_STOPS
from lightning_nndyn.evaluation.benchmark.judged_runs import UNIVERSAL
from lightning_nndyn.evaluation.benchmark.methods import PREDICTIONS, RANKS
from lightning_nndyn.evaluation.benchmark.scores import Row, distinct, select
from lightning_nndyn.evaluation.cache import Part
from lightning_nndyn.evaluation.figures import draw_lines
from lightning_nndyn.evaluation.markdown import epochs_text, number, table
from lightning_nndyn.evaluation.paper.feature_analysis import CURVES
from lightning_nndyn.evaluation.result_file import BOTH, NOTHING, ONE, read_rows, write_rows

FILE = "predictions.parquet"

TITLES = {
    "graph-v2": "weights",
    "curves": "losses and curve",
    "fused": "weights and curve",
    "last-accuracy": "accuracy so far",
    "hyperparameters": "hyperparameters",
}
"""The methods that stand in summaries, by name: what they read."""

DRAWN = [*TITLES][:4]
"""Those of them that figures show."""

_SUMMARY_TIMES = (1 / 4, 1.0, 5.0)


# -- rows on disk


def write_results(parts: Mapping[str, Sequence[Row]], folder: Path) -> None:
    """Write the rows of all parts, given by the keys of these.

    Raises:
        CorpusError: the folder cannot be written.
    """
    rows = [asdict(row) | {"knows": knows(row), "part": key} for key, part in parts.items() for row in part]
    write_rows(folder / FILE, rows, {"empty parts": [key for key, part in parts.items() if not part]})


def knows(row: Row) -> str | None:
    """What was in the runs that a method was fitted to; None for rows that are no predictions."""
    if row.method in CURVES:
        return None
    if row.method in (*PREDICTIONS, *RANKS):
        return NOTHING
    left_out = row.band.startswith(("without ", "from ")) or row.method == UNIVERSAL
    return ONE if left_out else BOTH


def published_parts(folder: Path) -> dict[str, Part]:
    """The parts in a folder by their keys; none where there is no file."""
    rows, notes = read_rows(folder / FILE)
    parts: dict[str, Part] = {key: {"rows": [], "seconds": 0.0} for key in notes.get("empty parts", ())}
    for row in rows:
        key, _ = row.pop("part"), row.pop("knows")
        parts.setdefault(key, {"rows": [], "seconds": 0.0})["rows"].append(row)
    return parts


# -- for readers


def write_summary(rows: Sequence[Row], folder: Path) -> Path:
    """Write `predictions.md`, and a figure for each corpus that has rank correlations.

    Raises:
        MissingExtraError: matplotlib is not installed.
        CorpusError: the folder cannot be written.
    """
    parts = [
        "# Predictions of the final accuracy of held-out runs",
        f"Every number with its 95 % interval is in `{FILE}`; this page shows a few.",
    ]
    for time in _SUMMARY_TIMES:
        if lines := rank_lines(rows, time):
            parts += [f"## Spearman's rank correlation after {epochs_text(time)} epoch(s)", *_table(lines)]
    if stops := list(stop_lines(rows)):
        header = ["corpus", "good runs stopped, %", "low runs stopped, %"]
        parts += ["## Runs stopped at a false-stop rate of 5 %", table(header, stops)]
    for corpus in distinct(select(rows, metric="spearman"), "corpus"):
        name = f"predictions-{corpus}.svg"
        if draw_ranks(select(rows, corpus=corpus), folder / name):
            parts += [f"![Rank correlation over time, {corpus}]({name})"]
    page = folder / "predictions.md"
    write_atomically(page, "\n\n".join([*parts, ""]).encode())
    return page


def _table(lines: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    methods = list(dict.fromkeys(method for found in lines.values() for method in found))
    cells = [[name, *(number(found.get(one), 2) for one in methods)] for name, found in lines.items()]
    yield table(["corpus", *(TITLES.get(method, method) for method in methods)], cells)


def rank_lines(rows: Sequence[Row], time: float) -> dict[str, dict[str, float]]:
    """Rank correlations on trainable runs at a time, by corpus and method; see `summary_methods`."""
    chosen = select(rows, band="trainable", metric="spearman", t=time)
    methods = _summary_methods(chosen)
    return {
        corpus: {
            row.method: row.value
            for row in sorted(select(chosen, corpus=corpus), key=_place)
            if row.method in methods and row.value is not None
        }
        for corpus in distinct(chosen, "corpus")
    }


def _place(row: Row) -> int:
    return [*TITLES].index(row.method) if row.method in TITLES else len(TITLES)


def _summary_methods(rows: Sequence[Row]) -> set[str]:
    """Those of `TITLES`, or whatever was asked for where none of them was."""
    methods = {*distinct(rows, "method")}
    return methods & {*TITLES} or methods


def stop_lines(rows: Sequence[Row], method: str = "fused") -> Iterator[list[str]]:
    """Shares of good and low runs that a predictor as shipped stops, with their intervals, by corpus."""
    for corpus in distinct(rows, "corpus"):
        own = {row.metric: row for row in select(rows, corpus=corpus, method=method, band="all")}
        stops = [own.get(metric + AS_SHIPPED) for metric in (FALSE_STOPS, TRUE_STOPS)]
        if any(stops):
            yield [corpus, *map(_with_interval, stops)]


def _with_interval(row: Row | None) -> str:
    if row is None or row.value is None:
        return ""
    return f"{number(row.value, 1, 100)} ({100 * (row.low or 0):.0f} to {100 * (row.high or 0):.0f})"


def draw_ranks(rows: Sequence[Row], file: Path) -> bool:
    """Draw rank correlations on trainable runs over time, means over corpora; False where there are none."""
    chosen = select(rows, band="trainable", metric="spearman")
    corpora = distinct(chosen, "corpus")
    lines: dict[str, list[tuple[float, float]]] = {}
    for method in sorted(_summary_methods(chosen) & {*DRAWN}, key=DRAWN.index):
        for time in sorted({row.t for row in chosen}):
            values = [row.value for row in select(chosen, method=method, t=time) if row.value is not None]
            if len(values) == len(corpora):
                lines.setdefault(TITLES[method], []).append((time, sum(values) / len(values)))
    if lines:
        draw_lines(lines, file, x="epochs read", y="rank correlation with the final accuracy")
    return bool(lines)
