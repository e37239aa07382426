"""Tables and figures of false-stop rates, few own runs and probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning_nndyn.evaluation.benchmark.false_stop_rates import (
    AS_SHIPPED,
    BRIER,
    FALSE_STOPS,
    IF_KNOWN,
    NUM_BINS,
    RELIABILITY,
    TRUE_STOPS,
)
from lightning_nndyn.evaluation.benchmark.few_own_runs import OWN_SWEEP
from lightning_nndyn.evaluation.benchmark.judged_runs import UNIVERSAL
from lightning_nndyn.evaluation.benchmark.rows import Row
from lightning_nndyn.evaluation.benchmark.tables import Chapter, Table, epochs_text, save, subplots

FALSE_STOP_TITLE = "Can it be trusted"
"""Heading of the chapters."""

_STOPS = (FALSE_STOPS, TRUE_STOPS)

_SPLITS = (
    "Each run is judged by a predictor that was fitted to four fifths of the others, with all decisions up "
    "to epoch 5. The promise is that at most 5 % of the good runs are stopped. *As shipped* is the "
    "predictor's own policy: it applies the strictest threshold of its populations, stops no run that is "
    "out of domain, and with fewer than 19 good runs stops only runs that have diverged. *Dealt out* is a "
    "threshold that was calibrated on a random half of the good runs and applied to the other half, two "
    "hundred times: it tests the calibration by itself. Intervals are exact binomial ones; for *dealt out* "
    "the range of the splits."
)

_UNKNOWN = (
    "One predictor, fitted to all other runs, is applied to the runs that were left out. Exchangeability "
    "does not extend the promise to them: the threshold is the strictest of all known populations. *Out of "
    "domain* is the share of runs that are unlike all known runs after that time, and therefore not "
    "stopped. The error is that of the predicted share of the best accuracy, in points. The last two "
    "columns say what would be stopped if all runs were in domain."
)

_OWN = (
    "A predictor of thirty random finished runs of a sweep, with their curves, against a predictor of all "
    "other corpora; both are tested on the rest of the sweep, five times. They predict the share of the "
    "best accuracy: error in points, and rank correlation."
)

_PROBABILITY = (
    "The share of held-out runs that ended low, in five bins of the predicted probability. The Brier score "
    "is the mean squared error of the probability; beside it stands the score of always predicting the "
    "share of low runs."
)


def false_stop_chapters(rows: Sequence[Row]) -> list[Chapter]:
    """All chapters that have rows."""
    found = [
        Chapter("Good runs that were stopped", _SPLITS, list(_split_tables(rows))),
        Chapter("Networks, data and optimizers never seen", _UNKNOWN, list(_unknown_tables(rows))),
        Chapter("Thirty runs of one's own", _OWN, list(_own_tables(rows))),
        Chapter("Probabilities", _PROBABILITY, list(_brier_tables(rows))),
    ]
    return [chapter for chapter in found if chapter.tables]


def _split_tables(rows: Sequence[Row]) -> Iterator[Table]:
    chosen = [row for row in rows if row.band == "all" and row.metric.removesuffix(AS_SHIPPED) in _STOPS]
    lines = []
    for corpus, method in dict.fromkeys((row.corpus, row.method) for row in chosen):
        own = {row.metric: row for row in chosen if (row.corpus, row.method) == (corpus, method)}
        shares = [metric + way for way in (AS_SHIPPED, "") for metric in _STOPS]
        lines.append([corpus, method, *(_with_interval(own.get(share)) for share in shares)])
    if lines:
        header = [
            "corpus",
            "by",
            *(f"{runs}, {way}" for way in ("as shipped", "dealt out") for runs in ("good", "low")),
        ]
        yield Table("trust-stops", "Share of runs that were stopped, %", header, lines)


def _unknown_tables(rows: Sequence[Row]) -> Iterator[Table]:
    chosen = [row for row in rows if row.corpus == UNIVERSAL and row.band.startswith("without ")]
    lines = []
    for band, method in dict.fromkeys((row.band, row.method) for row in chosen):
        own = {(row.metric, row.t): row for row in chosen if (row.band, row.method) == (band, method)}
        errors = [_percent(own.get((f"mae_relative_{kind}", 1.0))) for kind in ("known", "flagged")]
        flagged = [_percent(own.get(("flagged_share", time))) for time in (0.25, 1.0)]
        stops = [
            _with_interval(next((row for (found, _), row in own.items() if found == metric), None))
            for metric in (*_STOPS, *(metric + IF_KNOWN for metric in _STOPS))
        ]
        runs = max(row.runs for row in own.values())
        lines.append([band.removeprefix("without "), str(runs), method, *flagged, *errors, *stops])
    if lines:
        shares = [f"out of domain, {time}" for time in ("1/4", "1")]
        header = ["left out", "runs", "by", *shares, "error, in domain", "error, out of domain"]
        stopped = ["good stopped", "low stopped"]
        header += [*stopped, *(f"{name}, all in domain" for name in stopped)]
        yield Table("trust-strangers", "Runs unlike those of the fit, %", header, lines)


def _own_tables(rows: Sequence[Row]) -> Iterator[Table]:
    chosen = [row for row in rows if row.band == OWN_SWEEP]
    times = sorted({row.t for row in chosen})
    lines = []
    for corpus, method in dict.fromkeys((row.corpus, row.method) for row in chosen):
        own = {(row.metric, row.t): row for row in chosen if (row.corpus, row.method) == (corpus, method)}
        errors = [_percent(own.get(("mae_relative", time))) for time in times]
        ranks = [_decimal(own.get(("spearman", time)), 2) for time in times]
        lines.append([corpus, method, *errors, *ranks])
    if lines:
        after = [f"{name}, {epochs_text(time)}" for name in ("error", "rank") for time in times]
        yield Table(
            "trust-own-sweep", "Error in points and rank correlation", ["corpus", "by", *after], lines
        )


def _brier_tables(rows: Sequence[Row]) -> Iterator[Table]:
    chosen = [row for row in rows if row.metric in (BRIER, f"{BRIER}_of_share")]
    times = sorted({row.t for row in chosen})
    for corpus in dict.fromkeys(row.corpus for row in chosen):
        lines = []
        for method in dict.fromkeys(row.method for row in chosen):
            for metric, note in ((BRIER, ""), (f"{BRIER}_of_share", " (share of low runs)")):
                own = {
                    row.t: row
                    for row in chosen
                    if (row.corpus, row.method, row.metric) == (corpus, method, metric)
                }
                if own:
                    lines.append([method + note, *(_decimal(own.get(time), 3) for time in times)])
        name = f"{corpus}-reliability"
        yield Table(name, f"{corpus}: Brier scores", ["after", *map(epochs_text, times)], lines, figure=name)


def draw_reliability(rows: Sequence[Row], folder: Path) -> None:
    """Draw the share of low runs against their predicted probability, one figure for each corpus.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    chosen = [row for row in rows if row.metric.startswith(RELIABILITY) and row.value is not None]
    for corpus in dict.fromkeys(row.corpus for row in chosen):
        figure, axes = subplots(size=(5, 4.5))
        axes.plot([0, 1], [0, 1], ":", color="grey", label="as promised")
        own = [row for row in chosen if row.corpus == corpus]
        for method, time in dict.fromkeys((row.method, row.t) for row in own):
            points = sorted(
                (float(row.metric.removeprefix(RELIABILITY)), row.value or 0)
                for row in own
                if (row.method, row.t) == (method, time)
            )
            axes.plot(*zip(*points, strict=True), "o-", label=f"{method}, after {epochs_text(time)}")
        axes.set(
            xlabel="probability of ending low",
            ylabel="share that did",
            title=corpus,
            xlim=(0, 1),
            ylim=(0, 1),
        )
        axes.set_xticks([step / NUM_BINS for step in range(NUM_BINS + 1)])
        axes.legend(fontsize="small")
        save(figure, folder / f"{corpus}-reliability.png")


def _with_interval(row: Row | None) -> str:
    """A percentage with its interval."""
    if row is None or row.value is None:
        return ""
    return f"{100 * row.value:.1f} ({100 * (row.low or 0):.0f} to {100 * (row.high or 0):.0f})"


def _percent(row: Row | None) -> str:
    return "" if row is None or row.value is None else f"{100 * row.value:.1f}"


def _decimal(row: Row | None, digits: int) -> str:
    return "" if row is None or row.value is None else f"{row.value:.{digits}f}"
