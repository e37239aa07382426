"""The results of an evaluation as files: rows for machines, tables and figures for readers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning_nndyn.corpus.store import write_atomically
from lightning_nndyn.evaluation.compare import Row

_HIGHER_IS_BETTER = {"mae": False, "r2": True, "spearman": True, "accuracy": True, "auc": True}
_TITLES = {
    "mae": "Mean absolute error, points of final accuracy",
    "r2": "R2",
    "spearman": "Spearman's rank correlation",
    "accuracy": "Low or not, % right",
    "auc": "Area under the ROC, low against not low",
}
_COLOURS, _STYLES = 10, ("-", "--", ":")
_SHOWN: dict[str, Callable[[float], str]] = {
    "mae": lambda value: f"{100 * value:.1f}",
    "accuracy": lambda value: f"{100 * value:.0f}",
}


def write_rows(rows: Sequence[Row], file: Path) -> None:
    """Write all rows as a JSON list, one row a line."""
    lines = ",\n".join(json.dumps(row.to_dict()) for row in rows)
    write_atomically(file, f"[\n{lines}\n]\n".encode())


def read_rows(file: Path) -> list[Row]:
    """Read what `write_rows` wrote."""
    return [Row(**row) for row in json.loads(file.read_text())]


def markdown_table(rows: Iterable[Row], corpus: str, band: str, metric: str) -> str:
    """Methods by times; the best of each time in bold, intervals left to the rows."""
    cells = {
        (row.method, row.t): row.value
        for row in rows
        if (row.corpus, row.band, row.metric) == (corpus, band, metric) and row.value is not None
    }
    methods, times = dict.fromkeys(method for method, _ in cells), sorted({time for _, time in cells})
    choose = max if _HIGHER_IS_BETTER[metric] else min
    best = {time: choose(value for (_, t), value in cells.items() if t == time) for time in times}
    lines = [_line(["after", *map(_epochs, times)]), _line(["---"] * (len(times) + 1))]
    for method in methods:
        values = [(cells.get((method, time)), best[time]) for time in times]
        lines.append(_line([method, *(_cell(value, top, metric) for value, top in values)]))
    return "\n".join(lines)


def report(rows: Sequence[Row], metrics: Sequence[str] = ("mae", "spearman", "auc")) -> str:
    """All tables as Markdown, a chapter a corpus."""
    parts = []
    for corpus in dict.fromkeys(row.corpus for row in rows):
        parts.append(f"## {corpus}")
        for band in dict.fromkeys(row.band for row in rows if row.corpus == corpus):
            runs = max(row.runs for row in rows if (row.corpus, row.band) == (corpus, band))
            measured = {row.metric for row in rows if (row.corpus, row.band) == (corpus, band)}
            for metric in (name for name in metrics if name in measured):
                parts.append(f"### {_TITLES[metric]}: {_told(band)}, up to {runs} runs")
                parts.append(markdown_table(rows, corpus, band, metric))
    return "\n\n".join(parts)


def draw(rows: Sequence[Row], corpus: str, band: str, metric: str, file: Path) -> None:
    """Draw methods over time with their intervals.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, axes = _subplots()
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
    axes.set_xticks(range(len(times)), [_epochs(time) for time in times])
    axes.set(xlabel="decision after epochs", ylabel=_TITLES[metric], title=f"{corpus}, {band} runs")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(file, dpi=120, bbox_inches="tight", metadata={"Software": None})


def _subplots() -> tuple[Any, Any]:
    from lightning_nndyn.errors import MissingExtraError

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "drawing results") from error
    figure: Any = Figure(figsize=(7, 4.5))
    return figure, figure.subplots()


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


def _epochs(time: float) -> str:
    return f"{time:g}" if time >= 1 else f"1/{round(1 / time)}"
