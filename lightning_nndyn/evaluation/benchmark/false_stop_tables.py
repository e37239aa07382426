"""What `trust` measured, as tables and figures for readers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning_nndyn.evaluation.benchmark.compare import Row
from lightning_nndyn.evaluation.benchmark.false_stop_rates import (
    AS_SHIPPED,
    BINS,
    BRIER,
    FALSE_STOPS,
    IF_KNOWN,
    RELIABILITY,
    TRUE_STOPS,
    UNIVERSAL,
)
from lightning_nndyn.evaluation.benchmark.tables import Table, epochs_text, save, subplots
from lightning_nndyn.evaluation.paper.tables import Chapter

_STOPS = (FALSE_STOPS, TRUE_STOPS)

_SPLITS = (
    "Each run is judged by a predictor that was fitted to four fifths of the others, all decisions to epoch "
    "5 together; the promise is that at most 5 % of the good runs are stopped. As shipped: the predictor's "
    "own policy decides, which takes the strictest threshold of its populations, stops no run that it takes "
    "for a stranger, and without 19 good runs stops only what has diverged. Dealt out: the good runs were "
    "dealt out two hundred times into those that set one threshold and those that it was tried on, which "
    "shows the promise by itself. The intervals are exact binomial ones, and those of the splits."
)

_STRANGERS = (
    "One predictor over all other runs, asked about those that were left out. Here the promise is beyond "
    "what exchangeability gives: the threshold is the strictest that any known population asks for. "
    "Strange is the share that is taken for unlike all known runs after that time, and then not stopped. "
    "The error is that of the predicted share of the best accuracy, in points: for runs taken for known, "
    "and for strange ones. The last two columns say what would be stopped if nothing were taken for strange."
)

_OWN = (
    "Thirty random finished runs of a sweep, with their curves, against all that the other corpora teach; "
    "both asked about the rest of the sweep, five times. What is predicted is the share of the best "
    "accuracy: error in points, and rank correlation."
)

_PROBABILITY = (
    "Of the held-out runs that were given a probability of ending low, how many did, in five steps. The "
    "Brier score is the mean squared error of the probability; that of always giving the share of low "
    "runs stands beside it."
)


def trust_chapters(rows: Sequence[Row]) -> list[Chapter]:
    """All tables on what is promised; those without rows are left out."""
    found = [
        Chapter("Good runs that were stopped", _SPLITS, list(_split_tables(rows))),
        Chapter("Networks, data and optimizers never seen", _STRANGERS, list(_stranger_tables(rows))),
        Chapter("Thirty runs of one's own", _OWN, list(_own_tables(rows))),
        Chapter("Probabilities", _PROBABILITY, list(_brier_tables(rows))),
    ]
    return [chapter for chapter in found if chapter.tables]


def trust_report(chapters: Sequence[Chapter]) -> str:
    """The chapters as Markdown."""
    return (
        "\n\n".join(["## Can it be trusted", *(chapter.markdown() for chapter in chapters)])
        if chapters
        else ""
    )


def _split_tables(rows: Sequence[Row]) -> Iterator[Table]:
    chosen = [row for row in rows if row.band == "all" and row.metric.removesuffix(AS_SHIPPED) in _STOPS]
    lines = []
    for corpus, method in dict.fromkeys((row.corpus, row.method) for row in chosen):
        own = {row.metric: row for row in chosen if (row.corpus, row.method) == (corpus, method)}
        shares = [metric + way for way in (AS_SHIPPED, "") for metric in _STOPS]
        lines.append([corpus, method, *(_between(own.get(share)) for share in shares)])
    if lines:
        header = [
            "corpus",
            "by",
            *(f"{runs}, {way}" for way in ("as shipped", "dealt out") for runs in ("good", "low")),
        ]
        yield Table("trust-stops", "Share of runs that were stopped, %", header, lines)


def _stranger_tables(rows: Sequence[Row]) -> Iterator[Table]:
    chosen = [row for row in rows if row.corpus == UNIVERSAL and row.band.startswith("without ")]
    lines = []
    for band, method in dict.fromkeys((row.band, row.method) for row in chosen):
        own = {(row.metric, row.t): row for row in chosen if (row.band, row.method) == (band, method)}
        cells = [_percent(own.get((f"mae_relative_{kind}", 1.0))) for kind in ("known", "flagged")]
        strange = [_percent(own.get(("flagged_share", time))) for time in (0.25, 1.0)]
        stops = [
            _between(next((row for (found, _), row in own.items() if found == metric), None))
            for metric in (*_STOPS, *(metric + IF_KNOWN for metric in _STOPS))
        ]
        runs = max(row.runs for row in own.values())
        lines.append([band.removeprefix("without "), str(runs), method, *strange, *cells, *stops])
    header = ["left out", "runs", "by", "strange, 1/4", "strange, 1", "error, known", "error, strange"]
    if lines:
        title = "Runs unlike those of the fit, %"
        stopped = ["good stopped", "low stopped"]
        header += [*stopped, *(f"{name}, if known" for name in stopped)]
        yield Table("trust-strangers", title, header, lines)


def _own_tables(rows: Sequence[Row]) -> Iterator[Table]:
    chosen = [row for row in rows if row.band == "own sweep"]
    times = sorted({row.t for row in chosen})
    lines = []
    for corpus, method in dict.fromkeys((row.corpus, row.method) for row in chosen):
        own = {(row.metric, row.t): row for row in chosen if (row.corpus, row.method) == (corpus, method)}
        errors = [_percent(own.get(("mae_relative", time))) for time in times]
        ranks = [_two_digits(own.get(("spearman", time))) for time in times]
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
                    lines.append([method + note, *(_three_digits(own.get(time)) for time in times)])
        name = f"{corpus}-reliability"
        yield Table(name, f"{corpus}: Brier scores", ["after", *map(epochs_text, times)], lines, figure=name)


def draw_reliability(rows: Sequence[Row], folder: Path) -> None:
    """Draw of each corpus the share of low runs against the probability that they were given.

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
        axes.set_xticks([step / BINS for step in range(BINS + 1)])
        axes.legend(fontsize="small")
        save(figure, folder / f"{corpus}-reliability.png")


def _between(row: Row | None) -> str:
    if row is None or row.value is None:
        return ""
    return f"{100 * row.value:.1f} ({100 * (row.low or 0):.0f} to {100 * (row.high or 0):.0f})"


def _percent(row: Row | None) -> str:
    return "" if row is None or row.value is None else f"{100 * row.value:.1f}"


def _two_digits(row: Row | None) -> str:
    return "" if row is None or row.value is None else f"{row.value:.2f}"


def _three_digits(row: Row | None) -> str:
    return "" if row is None or row.value is None else f"{row.value:.3f}"
