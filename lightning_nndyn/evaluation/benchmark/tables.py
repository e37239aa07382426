"""The results of an evaluation as files: rows for machines, tables and figures for readers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_nndyn.corpus.storage.folder import write_atomically
from lightning_nndyn.evaluation.benchmark.compare import BANDS, Row

_HIGHER_IS_BETTER = {"mae": False, "r2": True, "spearman": True, "accuracy": True, "auc": True}
_TITLES = {
    "mae": "Mean absolute error, points of final accuracy",
    "r2": "R2",
    "spearman": "Spearman's rank correlation",
    "accuracy": "Low or not, % right",
    "auc": "Area under the ROC, low against not low",
}
DRAWN = ("mae", "spearman")
"""Metrics that have figures."""

_COLOURS, _STYLES = 10, ("-", "--", ":")
_SHOWN: dict[str, Callable[[float], str]] = {
    "mae": lambda value: f"{100 * value:.1f}",
    "accuracy": lambda value: f"{100 * value:.1f}",
}


def write_rows(rows: Sequence[Row], file: Path) -> None:
    """Write all rows as a JSON list, one row a line."""
    lines = ",\n".join(json.dumps(row.to_dict()) for row in rows)
    write_atomically(file, f"[\n{lines}\n]\n".encode())


def read_rows(file: Path) -> list[Row]:
    """Read what `write_rows` wrote."""
    return [Row(**row) for row in json.loads(file.read_text())]


@dataclass(frozen=True)
class Table:
    """A table for readers.

    Attributes:
        name: of its file, without ending.
        title: what it shows.
        header: names of the columns.
        lines: its cells, as text; the best ones between two pairs of stars.
        figure: name of the PNG that shows the same, without ending; empty where there is none.
    """

    name: str
    title: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    figure: str = ""

    def markdown(self) -> str:
        """The table, without its title."""
        rule = ["---"] * len(self.header)
        return "\n".join(map(_line, (self.header, rule, *self.lines)))

    def csv(self) -> str:
        """The same cells, the best ones unmarked."""
        text = io.StringIO()
        plain = [[cell.strip("*") for cell in line] for line in self.lines]
        csv.writer(text, lineterminator="\n").writerows([self.header, *plain])
        return text.getvalue()

    def section(self, level: int) -> str:
        """The table with its title as a heading, and its figure."""
        parts = [f"{'#' * level} {self.title}", self.markdown()]
        if self.figure:
            parts.append(f"![{self.title}](figures/{self.figure}.png)")
        return "\n\n".join(parts)


def by_time(rows: Iterable[Row], metric: str, name: str = "", title: str = "", figure: str = "") -> Table:
    """Methods by times, of rows of one corpus, band and metric; the best of each time is marked."""
    cells = {(row.method, row.t): row.value for row in rows if row.value is not None}
    methods, times = dict.fromkeys(method for method, _ in cells), sorted({time for _, time in cells})
    choose = max if _HIGHER_IS_BETTER[metric] else min
    best = {time: choose(value for (_, t), value in cells.items() if t == time) for time in times}
    lines = [
        [method, *(_cell(cells.get((method, time)), best[time], metric) for time in times)]
        for method in methods
    ]
    return Table(name, title, ["after", *map(epochs_text, times)], lines, figure)


def markdown_table(rows: Iterable[Row], corpus: str, band: str, metric: str) -> str:
    """Methods by times; the best of each time in bold, intervals left to the rows."""
    wanted = corpus, band, metric
    return by_time((row for row in rows if (row.corpus, row.band, row.metric) == wanted), metric).markdown()


def tables(rows: Sequence[Row], metrics: Sequence[str] = ("mae", "spearman", "auc")) -> Iterator[Table]:
    """All tables of methods by times, corpus by corpus."""
    for corpus, band in dict.fromkeys((row.corpus, row.band) for row in rows):
        own = [row for row in rows if (row.corpus, row.band) == (corpus, band)]
        runs = max(row.runs for row in own)
        for metric in metrics:
            chosen = [row for row in own if row.metric == metric]
            if chosen:
                name = f"{corpus}-{band.replace(' ', '-')}-{metric}"
                title = f"{_TITLES[metric]}: {_told(band)}, up to {runs} runs"
                figure = name if band in BANDS and metric in DRAWN else ""
                yield by_time(chosen, metric, name, title, figure)


def report(rows: Sequence[Row]) -> str:
    """All tables as Markdown, a chapter a corpus."""
    parts = []
    for corpus in dict.fromkeys(row.corpus for row in rows):
        parts.append(f"## {corpus}")
        parts += [table.section(3) for table in tables([row for row in rows if row.corpus == corpus])]
    return "\n\n".join(parts)


def draw(rows: Sequence[Row], corpus: str, band: str, metric: str, file: Path) -> None:
    """Draw methods over time with their intervals.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, axes = subplots()
    chosen = [row for row in rows if (row.corpus, row.band, row.metric) == (corpus, band, metric)]
    times = sorted({row.t for row in chosen})
    for number, method in enumerate(dict.fromkeys(row.method for row in chosen)):
        own = [row for row in chosen if row.method == method and row.value is not None]
        scale = 100 if metric in ("mae", "accuracy") else 1
        places = [times.index(row.t) for row in own]
        ends = [[scale * (getattr(row, end) or 0) for row in own] for end in ("low", "high")]
        style = _STYLES[number // _COLOURS % len(_STYLES)]  # colours come round again
        (line,) = axes.plot(places, [scale * (row.value or 0) for row in own], style, label=method)
        axes.fill_between(places, *ends, color=line.get_color(), alpha=0.08)
    axes.set_xticks(range(len(times)), [epochs_text(time) for time in times])
    axes.set(xlabel="decision after epochs", ylabel=_TITLES[metric], title=f"{corpus}, {band} runs")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, file)


def subplots(rows: int = 1, columns: int = 1, size: tuple[float, float] = (7, 4.5)) -> tuple[Any, Any]:
    """A matplotlib figure of that size in inches, and its axes, an array where there are several.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    from lightning_nndyn.errors import MissingExtraError

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "drawing results") from error
    figure: Any = Figure(figsize=size)
    return figure, figure.subplots(rows, columns)


def save(figure: Any, file: Path) -> None:
    """Write a PNG, the same bytes for the same figure."""
    figure.savefig(file, dpi=120, bbox_inches="tight", metadata={"Software": None})


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: float | None, best: float, metric: str) -> str:
    if value is None:
        return ""
    text = _SHOWN.get(metric, _two_digits)(value)
    return f"**{text}**" if value == best else text


def _two_digits(value: float) -> str:
    return f"{value:.2f}"


def _told(band: str) -> str:
    """A band in words."""
    if band.startswith("without "):
        return f"fitted {band}, ranked on it"
    return f"{band} runs"


def epochs_text(time: float) -> str:
    """A time in epochs, with fractions below one."""
    return f"{time:g}" if time >= 1 or not time else f"1/{round(1 / time)}"
