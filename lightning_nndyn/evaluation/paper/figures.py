"""Figures of the paper's experiments, in the form of the paper's figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning_nndyn.evaluation.benchmark.figures import line_with_interval, save, subplots
from lightning_nndyn.evaluation.benchmark.scores import BANDS, Row, distinct, select
from lightning_nndyn.evaluation.benchmark.tables import epochs_text
from lightning_nndyn.evaluation.paper.classification import MAJORITY
from lightning_nndyn.evaluation.paper.feature_analysis import ANALYSED, CURVES, IMPORTANCE
from lightning_nndyn.evaluation.paper.features import SETTINGS
from lightning_nndyn.evaluation.paper.tables import words
from lightning_nndyn.evaluation.paper.unseen_architectures import is_unseen
from lightning_nndyn.signature.snapshot import STATISTICS

_COLOURS = {"svm": "tab:blue", "mlp": "tab:red", "low": "tab:red", "high": "tab:blue"}  # the paper's
_STYLES = {"plain": "-", "linear": "--", "exponential": ":", "mean": "-", "median": ":"}
_GREY = "0.4"


def draw_paper(rows: Sequence[Row], folder: Path) -> None:
    """Draw every figure that has rows, as `CORPUS-paper-KIND.png`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    for corpus in distinct(rows, "corpus"):
        own, start = select(rows, corpus=corpus), f"{corpus}-paper"
        for band in BANDS:
            chosen = select(own, band=band, metric="accuracy")
            _draw(_classification, chosen, SETTINGS, folder / f"{start}-classification-{band}.png")
        unseen = [row for row in select(own, metric="accuracy") if is_unseen(row)]
        _draw(_unseen, unseen, SETTINGS, folder / f"{start}-unseen.png")
        important = [row for row in own if row.metric.startswith(IMPORTANCE)]
        _draw(_importance, important, ANALYSED, folder / f"{start}-importance.png")
        _draw(_curves, own, CURVES, folder / f"{start}-curves.png")


def _draw(plot: Callable[[Sequence[Row]], Any], rows: Sequence[Row], methods: Any, file: Path) -> None:
    if any(row.method in methods for row in rows):
        save(plot(rows), file)


def _classification(rows: Sequence[Row]) -> Any:
    """A panel for each centrality: classifiers by colour, temporal forms by style."""
    figure, panels = subplots(1, 2, (11, 4.2))
    times = sorted({row.t for row in rows if row.method in SETTINGS})
    for axes, features in zip(panels, ("degree", "eigenvector"), strict=True):
        for setting in (one for one in SETTINGS.values() if one.features == features):
            label = f"{setting.classifier.upper()}, {setting.form}"
            _line(
                axes,
                select(rows, method=setting.name),
                times,
                label,
                _COLOURS[setting.classifier],
                _STYLES[setting.form],
            )
        _line(axes, select(rows, method=MAJORITY), times, "majority", _GREY, "-.")
        _time_axis(axes, times, f"{rows[0].corpus}, {rows[0].band} runs: {features}")
    panels[0].set_ylabel("low or not, % right")
    panels[1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _unseen(rows: Sequence[Row]) -> Any:
    """A panel for each choice of training corpora."""
    bands = distinct(rows, "band")
    figure, panels = subplots(1, len(bands), (1.5 + 4.5 * len(bands), 4.2))
    panels = panels if len(bands) > 1 else [panels]
    times = sorted({row.t for row in rows})
    for axes, band in zip(panels, bands, strict=True):
        own = select(rows, band=band)
        for method in distinct(own, "method"):
            kind = SETTINGS[method].classifier if method in SETTINGS else ""
            _line(
                axes,
                select(own, method=method),
                times,
                kind.upper() or method,
                _COLOURS.get(kind, _GREY),
                "-",
            )
        _time_axis(axes, times, f"{rows[0].corpus}, fitted to runs\n{band}")
    panels[0].set_ylabel("low or not, % right")
    panels[-1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _importance(rows: Sequence[Row]) -> Any:
    """A panel for each time: points lost without a statistic, with intervals."""
    times = sorted({row.t for row in rows})
    figure, panels = subplots(1, len(times), (2 + 3.6 * len(times), 4.6))
    panels = panels if len(times) > 1 else [panels]
    for axes, time in zip(panels, times, strict=True):
        for number, name in enumerate(ANALYSED):
            _bars(axes, select(rows, method=name, t=time), number)
        axes.axvline(0, color=_GREY, lw=0.8)
        axes.set(xlabel="points of accuracy lost", title=f"{rows[0].corpus}, after {epochs_text(time)}")
        axes.set_yticks(range(len(STATISTICS)), [] if axes is not panels[0] else [*map(words, STATISTICS)])
        axes.invert_yaxis()
    panels[-1].legend(fontsize="small")
    return figure


def _bars(axes: Any, rows: Sequence[Row], number: int) -> None:
    """One classifier's importances at a time; nothing where it has no rows."""
    for row in rows:
        kind = ANALYSED[row.method].classifier
        y = STATISTICS.index(row.metric.removeprefix(IMPORTANCE)) + 0.4 * number - 0.2
        label = kind.upper() if row is rows[0] else None
        style = {"color": _COLOURS[kind], "label": label, "error_kw": {"lw": 0.8}}
        axes.barh(y, 100 * (row.value or 0), 0.38, xerr=_whiskers(row), **style)


def _curves(rows: Sequence[Row]) -> Any:
    """A panel for each statistic: means and medians of high and of low runs."""
    figure, panels = subplots(2, 5, (18, 7))
    times = sorted({row.t for row in rows if row.method in CURVES})
    for axes, statistic in zip(panels.ravel(), STATISTICS, strict=True):
        for name in CURVES:
            summary, _, runs = name.split("-")
            _line(
                axes,
                select(rows, method=name, metric=statistic),
                times,
                name.replace("-", " "),
                _COLOURS[runs],
                _STYLES[summary],
                scale=1,
            )
        _time_axis(axes, times, words(statistic), every=2)
    panels[0, -1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"{rows[0].corpus}, all runs")
    figure.subplots_adjust(hspace=0.35, wspace=0.3)
    return figure


def _line(
    axes: Any,
    rows: Sequence[Row],
    times: Sequence[float],
    label: str,
    colour: str,
    style: str,
    scale: float = 100,
) -> None:
    """Values with their intervals, at evenly spaced times."""
    look = {"color": colour, "label": label, "lw": 1.3, "marker": ".", "ms": 4}
    line_with_interval(axes, rows, times, scale, {"alpha": 0.07, "lw": 0}, ls=style, **look)


def _time_axis(axes: Any, times: Sequence[float], title: str, every: int = 1) -> None:
    shown = range(0, len(times), every)
    axes.set_xticks(shown, [epochs_text(times[index]) for index in shown], fontsize="small")
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("epochs read")


def _whiskers(row: Row) -> list[list[float]]:
    """Lengths of a row's error bar, in points: below and above its value."""
    value, low, high = row.value or 0, row.low or 0, row.high or 0
    return [[100 * max(value - low, 0)], [100 * max(high - value, 0)]]
