"""The ledger: what was decided of each run, when and why; in shadow mode, what would have been done."""

from __future__ import annotations

from lightning_nndyn.evaluation.report.bar import Bar
from lightning_nndyn.evaluation.report.formatting import GOOD, UNKNOWN, epochs, fate, number, outcome, percent
from lightning_nndyn.evaluation.report.html import Html, tag
from lightning_nndyn.evaluation.report.marks import outcome_tag
from lightning_nndyn.evaluation.report.records import Collection
from lightning_nndyn.evaluation.report.run import Run

_COLUMNS = (
    ("Run", ""),
    ("Ended", ""),
    ("Decision", ""),
    ("After epochs", "n"),
    ("Predicted", "n"),
    ("Best accuracy", "n"),
    ("Outcome", ""),
    ("Epochs saved", "n"),
    ("Why", ""),
)

_KINDS = {
    "all": "all runs",
    "decided": "stopped, or would have been",
    "mistakes": "good, and stopped or would have been",
    "unknown": "end not known",
}


def ledger(found: Collection, bar: Bar) -> Html:
    """The section."""
    observed = all(run.action == "observe" for run in found.runs)
    intro = (
        "Shadow mode: nothing was stopped. This is what would have been, when and why."
        if observed
        else "What was decided of each run, or would have been where it was only observed or spared."
    )
    heads = [
        tag("th", tag("button", name, type="button"), scope="col", class_=kind or None)
        for name, kind in _COLUMNS
    ]
    rows = [_row(i, run, bar) for i, run in enumerate(found.runs)]
    table = tag(
        "table",
        tag("caption", "The ledger. The button in a column’s head sorts by it."),
        tag("thead", tag("tr", *heads)),
        tag("tbody", *rows),
        class_="sortable",
        id="ledger-table",
    )
    options = [tag("option", text, value=kind) for kind, text in _KINDS.items()]
    return tag(
        "section",
        tag("h2", "Ledger", id="ledger-heading"),
        tag("p", intro),
        tag(
            "div",
            tag("label", "Show", tag("select", *options, id="ledger-filter")),
            tag(
                "p", f"{len(rows)} of {len(rows)} runs shown", id="ledger-told", class_="soft", role="status"
            ),
            class_="controls",
        ),
        tag("div", table, class_="scroll tall", tabindex=0, role="region", aria_label="Ledger of all runs"),
        id="ledger",
        aria_labelledby="ledger-heading",
    )


def _row(place: int, run: Run, bar: Bar) -> Html:
    ended, decision = outcome(run, bar), run.decision
    prediction = run.prediction
    kinds = [
        kind
        for kind, member in (
            ("decided", decision.stop),
            ("mistakes", decision.stop and ended == GOOD),
            ("unknown", ended == UNKNOWN),
        )
        if member
    ]
    return tag(
        "tr",
        tag("th", tag("a", run.label, href=f"#run-{place}"), scope="row"),
        tag("td", run.status),
        tag("td", fate(run)),
        _number(decision.epoch if decision.stop else None, epochs),
        _number(None if prediction is None else prediction.predicted_accuracy, percent),
        _number(run.best, percent),
        tag("td", outcome_tag(ended), data_value=ended),
        _number(run.saved if decision.stop else None, number),
        tag("td", _why(run), class_="why"),
        id=f"row-{place}",
        data_kinds=" ".join(kinds),
    )


def _number(value: float | None, shown: object) -> Html:
    text = shown(value) if value is not None and callable(shown) else "–"
    return tag("td", text, class_="n", data_value="" if value is None else f"{value:.6g}")


def _why(run: Run) -> str:
    said = run.decision.reason if run.verdicts or run.decision.stop else "there was no verdict"
    return f"{said}. Spared: {run.spared}" if run.spared else said
