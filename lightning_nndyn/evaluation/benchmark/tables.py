"""The results of an evaluation for readers: tables as Markdown and CSV, and figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_nndyn.errors import MissingExtraError
from lightning_nndyn.evaluation.benchmark.rows import BANDS, Row

DRAWN = ("mae", "spearman")
"""Metrics that have figures."""

_BEGIN, _END = "<!-- begin tables -->", "<!-- end tables -->"
_HIGHER_IS_BETTER = {"mae": False, "r2": True, "spearman": True, "accuracy": True, "auc": True}
_TITLES = {
    "mae": "Mean absolute error, points of final accuracy",
    "r2": "R2",
    "spearman": "Spearman's rank correlation",
    "accuracy": "Low or not, % right",
    "auc": "Area under the ROC, low against not low",
}
_COLOURS, _STYLES = 10, ("-", "--", ":")
_FORMATS: dict[str, Callable[[float], str]] = {
    "mae": lambda value: f"{100 * value:.1f}",
    "accuracy": lambda value: f"{100 * value:.1f}",
}


@dataclass(frozen=True)
class Table:
    """A table for readers.

    Attributes:
        name: of its file, without suffix.
        title: its heading.
        header: names of the columns.
        lines: its cells, as text; the best ones between two pairs of stars.
        figure: name of the PNG that shows the same, without suffix; empty where there is none.
    """

    name: str
    title: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    figure: str = ""

    def markdown(self) -> str:
        """The table, without its title."""
        rule = ["---"] * len(self.header)
        return "\n".join(f"| {' | '.join(cells)} |" for cells in (self.header, rule, *self.lines))

    def csv(self) -> str:
        """The same cells, without stars."""
        text = io.StringIO()
        plain = [[cell.strip("*") for cell in line] for line in self.lines]
        csv.writer(text, lineterminator="\n").writerows([self.header, *plain])
        return text.getvalue()

    def section(self, level: int) -> str:
        """The table under its title, a heading of that level, and its figure."""
        parts = [f"{'#' * level} {self.title}", self.markdown()]
        if self.figure:
            parts.append(f"![{self.title}](figures/{self.figure}.png)")
        return "\n\n".join(parts)


@dataclass(frozen=True)
class Chapter:
    """Tables of one kind, with a text that explains them."""

    title: str
    text: str
    tables: Sequence[Table]

    def markdown(self) -> str:
        """Title, text and tables."""
        sections = (table.section(4) for table in self.tables)
        return "\n\n".join([f"### {self.title}", self.text, *sections])


def chapters_report(title: str, chapters: Sequence[Chapter]) -> str:
    """Chapters as Markdown under a common title; empty where there are none."""
    return "\n\n".join([f"## {title}", *(chapter.markdown() for chapter in chapters)]) if chapters else ""


def insert_tables(page: str, tables: str) -> str:
    """Replace the text between a page's two marks, or append it with marks where there are none."""
    before, _, rest = page.partition(_BEGIN)
    after = rest.partition(_END)[2]
    return f"{before}{_BEGIN}\n\n{tables}\n\n{_END}{after or chr(10)}"


def by_time(rows: Iterable[Row], metric: str, name: str = "", title: str = "", figure: str = "") -> Table:
    """Methods by times, for rows of one corpus, band and metric; the best method of each time is marked."""
    cells = {(row.method, row.t): row.value for row in rows if row.value is not None}
    methods, times = dict.fromkeys(method for method, _ in cells), sorted({time for _, time in cells})
    choose = max if _HIGHER_IS_BETTER[metric] else min
    best = {time: choose(value for (_, t), value in cells.items() if t == time) for time in times}
    lines = [
        [method, *(_cell(cells.get((method, time)), best[time], metric) for time in times)]
        for method in methods
    ]
    return Table(name, title, ["after", *map(epochs_text, times)], lines, figure)


def comparison_tables(
    rows: Sequence[Row], metrics: Sequence[str] = ("mae", "spearman", "auc")
) -> Iterator[Table]:
    """Tables of methods by times, for each corpus, band and metric."""
    for corpus, band in dict.fromkeys((row.corpus, row.band) for row in rows):
        own = [row for row in rows if (row.corpus, row.band) == (corpus, band)]
        runs = max(row.runs for row in own)
        for metric in metrics:
            chosen = [row for row in own if row.metric == metric]
            if chosen:
                name = f"{corpus}-{band.replace(' ', '-')}-{metric}"
                title = f"{_TITLES[metric]}: {_band_text(band)}, up to {runs} runs"
                figure = name if band in BANDS and metric in DRAWN else ""
                yield by_time(chosen, metric, name, title, figure)


def comparison_report(rows: Sequence[Row]) -> str:
    """All tables of methods by times as Markdown, one chapter for each corpus."""
    parts = []
    for corpus in dict.fromkeys(row.corpus for row in rows):
        parts.append(f"## {corpus}")
        own = [row for row in rows if row.corpus == corpus]
        parts += [table.section(3) for table in comparison_tables(own)]
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
        x = [times.index(row.t) for row in own]
        ends = [[scale * (getattr(row, end) or 0) for row in own] for end in ("low", "high")]
        style = _STYLES[number // _COLOURS % len(_STYLES)]  # there are more methods than colours
        (line,) = axes.plot(x, [scale * (row.value or 0) for row in own], style, label=method)
        axes.fill_between(x, *ends, color=line.get_color(), alpha=0.08)
    axes.set_xticks(range(len(times)), [epochs_text(time) for time in times])
    axes.set(xlabel="decision after epochs", ylabel=_TITLES[metric], title=f"{corpus}, {band} runs")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, file)


def subplots(rows: int = 1, columns: int = 1, size: tuple[float, float] = (7, 4.5)) -> tuple[Any, Any]:
    """A matplotlib figure of that size in inches, and its axes, an array where there are several.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "drawing results") from error
    figure: Any = Figure(figsize=size)
    return figure, figure.subplots(rows, columns)


def save(figure: Any, file: Path) -> None:
    """Write a PNG, the same bytes for the same figure."""
    figure.savefig(file, dpi=120, bbox_inches="tight", metadata={"Software": None})


def epochs_text(time: float) -> str:
    """A time in epochs, with fractions below one."""
    return f"{time:g}" if time >= 1 or not time else f"1/{round(1 / time)}"


def _cell(value: float | None, best: float, metric: str) -> str:
    if value is None:
        return ""
    text = _FORMATS.get(metric, "{:.2f}".format)(value)
    return f"**{text}**" if value == best else text


def _band_text(band: str) -> str:
    return f"fitted {band}, ranked on it" if band.startswith("without ") else f"{band} runs"
