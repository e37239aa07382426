"""Tables of false-stop rates, few own runs and probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightning_nndyn.evaluation.benchmark.false_stop_rates import (
    AS_SHIPPED,
    BRIER,
    FALSE_STOPS,
    IF_KNOWN,
    OWN_SWEEP,
    TRUE_STOPS,
)
from lightning_nndyn.evaluation.benchmark.judged_runs import UNIVERSAL
from lightning_nndyn.evaluation.benchmark.scores import Row, distinct, select
from lightning_nndyn.evaluation.benchmark.tables import Chapters, Table, epochs_text, number

_STOPS = (FALSE_STOPS, TRUE_STOPS)


def false_stop_chapters(rows: Sequence[Row]) -> Chapters:
    """The tables by chapter; none in a chapter without rows."""
    chapters = {"stops": _stops, "unknown": _unknown, "own": _own, "probability": _probability}
    return {name: list(tables(rows)) for name, tables in chapters.items()}


def _stops(rows: Sequence[Row]) -> Iterator[Table]:
    chosen = [row for row in rows if row.band == "all" and row.metric.removesuffix(AS_SHIPPED) in _STOPS]
    lines = []
    for corpus, method in distinct(chosen, "corpus", "method"):
        own = {row.metric: row for row in select(chosen, corpus=corpus, method=method)}
        shares = [metric + way for way in (AS_SHIPPED, "") for metric in _STOPS]
        lines.append([corpus, method, *(_with_interval(own.get(share)) for share in shares)])
    if lines:
        columns = [f"{runs}, {way}" for way in ("as shipped", "dealt out") for runs in ("good", "low")]
        yield Table("trust-stops", "Share of runs that were stopped, %", ["corpus", "by", *columns], lines)


def _unknown(rows: Sequence[Row]) -> Iterator[Table]:
    chosen = [row for row in rows if row.corpus == UNIVERSAL and row.band.startswith("without ")]
    lines = []
    for band, method in distinct(chosen, "band", "method"):
        found = select(chosen, band=band, method=method)
        own = {(row.metric, row.t): row.value for row in found}
        by_metric = {row.metric: row for row in reversed(found)}
        shares = [own.get(("flagged_share", time)) for time in (0.25, 1.0)]
        errors = [own.get((f"mae_relative_{kind}", 1.0)) for kind in ("known", "flagged")]
        stops = [by_metric.get(metric + way) for way in ("", IF_KNOWN) for metric in _STOPS]
        runs = max(row.runs for row in found)
        percentages = [number(share, 1, 100) for share in (*shares, *errors)]
        left_out = band.removeprefix("without ")
        lines.append([left_out, str(runs), method, *percentages, *map(_with_interval, stops)])
    if lines:
        header = ["left out", "runs", "by", "out of domain, 1/4", "out of domain, 1"]
        header += ["error, in domain", "error, out of domain"]
        header += [f"{runs} stopped{way}" for way in ("", ", all in domain") for runs in ("good", "low")]
        yield Table("trust-strangers", "Runs unlike those of the fit, %", header, lines)


def _own(rows: Sequence[Row]) -> Iterator[Table]:
    chosen = select(rows, band=OWN_SWEEP)
    times = sorted({row.t for row in chosen})
    lines = []
    for corpus, method in distinct(chosen, "corpus", "method"):
        own = {(row.metric, row.t): row.value for row in select(chosen, corpus=corpus, method=method)}
        errors = [number(own.get(("mae_relative", time)), 1, 100) for time in times]
        ranks = [number(own.get(("spearman", time)), 2) for time in times]
        lines.append([corpus, method, *errors, *ranks])
    if lines:
        after = [f"{name}, {epochs_text(time)}" for name in ("error", "rank") for time in times]
        title = "Error in points and rank correlation"
        yield Table("trust-own-sweep", title, ["corpus", "by", *after], lines)


def _probability(rows: Sequence[Row]) -> Iterator[Table]:
    notes = {BRIER: "", f"{BRIER}_of_share": " (share of low runs)"}
    chosen = [row for row in rows if row.metric in notes]
    times = sorted({row.t for row in chosen})
    for corpus in distinct(chosen, "corpus"):
        lines = []
        for method in distinct(chosen, "method"):
            for metric, note in notes.items():
                found = select(chosen, corpus=corpus, method=method, metric=metric)
                own = {row.t: row.value for row in found}
                if own:
                    lines.append([method + note, *(number(own.get(time), 3) for time in times)])
        name = f"{corpus}-reliability"
        yield Table(name, f"{corpus}: Brier scores", ["after", *map(epochs_text, times)], lines, figure=name)


def _with_interval(row: Row | None) -> str:
    """A percentage with its interval."""
    if row is None or row.value is None:
        return ""
    return f"{number(row.value, 1, 100)} ({100 * (row.low or 0):.0f} to {100 * (row.high or 0):.0f})"
