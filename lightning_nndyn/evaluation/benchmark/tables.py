"""The results of an evaluation for readers: tables as Markdown and CSV, and the page around them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from lightning_nndyn.evaluation.benchmark.scores import BANDS, Row, distinct, select

DRAWN = ("mae", "spearman")
"""Metrics that have figures."""

TITLES = {
    "mae": "Mean absolute error, points of final accuracy",
    "spearman": "Spearman's rank correlation",
    "auc": "Area under the ROC, low against not low",
}
"""The metrics of the comparison's tables."""

PERCENTAGES = ("mae", "accuracy")
"""Metrics that are shown as percentages."""

_BEGIN, _END = "<!-- begin tables -->", "<!-- end tables -->"


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


Chapters = Mapping[str, Sequence[Table]]
"""Tables by the name of their chapter in the template of the page."""


def results_page(compared: Sequence[Row], false_stops: Chapters, paper: Chapters) -> str:
    """All tables as Markdown, from the comparison's rows and the chapters of the other experiments."""
    by_corpus = {
        corpus: list(comparison_tables(select(compared, corpus=corpus)))
        for corpus in distinct(compared, "corpus")
    }
    return _template().render(compared=by_corpus, false_stops=false_stops, paper=paper).strip()


@cache
def _template() -> Template:
    environment = Environment(  # Markdown: nothing is escaped
        loader=PackageLoader("lightning_nndyn.evaluation.benchmark"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("results.md")


def insert_tables(page: str, tables: str) -> str:
    """Replace the text between a page's two marks, or append it with marks where there are none."""
    before, _, rest = page.partition(_BEGIN)
    after = rest.partition(_END)[2]
    return f"{before}{_BEGIN}\n\n{tables}\n\n{_END}{after or chr(10)}"


def by_time(rows: Iterable[Row], metric: str, name: str = "", title: str = "", figure: str = "") -> Table:
    """Methods by times, for rows of one corpus, band and metric; the best method of each time is marked."""
    cells = {(row.method, row.t): row.value for row in rows if row.value is not None}
    methods, times = dict.fromkeys(method for method, _ in cells), sorted({time for _, time in cells})
    choose = min if metric == "mae" else max
    best = {time: choose(value for (_, t), value in cells.items() if t == time) for time in times}
    lines = [
        [method, *(_cell(cells.get((method, time)), best[time], metric) for time in times)]
        for method in methods
    ]
    return Table(name, title, ["after", *map(epochs_text, times)], lines, figure)


def comparison_tables(rows: Sequence[Row]) -> Iterator[Table]:
    """Tables of methods by times, for each corpus, band and metric."""
    for corpus, band in distinct(rows, "corpus", "band"):
        own = select(rows, corpus=corpus, band=band)
        runs = max(row.runs for row in own)
        shown = f"fitted {band}, ranked on it" if band.startswith("without ") else f"{band} runs"
        for metric, title in TITLES.items():
            if chosen := select(own, metric=metric):
                name = f"{corpus}-{band.replace(' ', '-')}-{metric}"
                figure = name if band in BANDS and metric in DRAWN else ""
                yield by_time(chosen, metric, name, f"{title}: {shown}, up to {runs} runs", figure)


def epochs_text(time: float) -> str:
    """A time in epochs, with fractions below one."""
    return f"{time:g}" if time >= 1 or not time else f"1/{round(1 / time)}"


def number(value: float | None, digits: int, scale: float = 1) -> str:
    """A number with so many digits after the point; empty for None."""
    # Zero is added as -0.0 has a sign.
    return "" if value is None else f"{round(scale * value, digits) + 0.0:.{digits}f}"


def _cell(value: float | None, best: float, metric: str) -> str:
    if value is None:
        return ""
    text = f"{100 * value:.1f}" if metric in PERCENTAGES else f"{value:.2f}"
    return f"**{text}**" if value == best else text
