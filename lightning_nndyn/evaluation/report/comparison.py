"""The section that holds the callback against other ways of stopping."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_nndyn.evaluation.report.formatting import counted, number, percent
from lightning_nndyn.evaluation.report.html import Html, tag
from lightning_nndyn.evaluation.report.marks import share_bar
from lightning_nndyn.evaluation.report.records import Collection
from lightning_nndyn.evaluation.report.replay import Outcome, Replay

_COLUMNS = (
    ("Way", ""),
    ("Epochs trained", "n"),
    ("Low runs stopped", "n"),
    ("Good runs stopped", "n"),
    ("Best run kept", "n"),
    ("Regret, points", "n"),
)


def comparison(found: Collection, replayed: Replay) -> Html:
    """The section."""
    body = _table(replayed) if replayed.runs else tag("p", "No run has finished: there is nothing to replay.")
    return tag(
        "section",
        tag("h2", "Against other ways of stopping", id="comparison-heading"),
        tag("p", _intro(replayed)) if replayed.runs else None,
        body,
        tag("p", replayed.missing, class_="soft") if replayed.missing else None,
        tag("ul", *(tag("li", sentence) for sentence in _caveats(found, replayed)))
        if replayed.runs
        else None,
        id="comparison",
        aria_labelledby="comparison-heading",
    )


def _intro(replayed: Replay) -> str:
    return (
        f"The recorded curves of {counted(replayed.runs, 'run')} that finished ({replayed.good} good), "
        f"{number(replayed.epochs)} epochs, trained one after the other and stopped by each rule."
    )


def _table(replayed: Replay) -> Html:
    heads = [tag("th", name, scope="col", class_=kind or None) for name, kind in _COLUMNS]
    low = replayed.runs - replayed.good
    rows = [_row(one, low, replayed.good) for one in replayed.outcomes]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), id="comparison-table")
    return tag(
        "div", table, class_="scroll", tabindex=0, role="region", aria_label="Ways of stopping compared"
    )


def _row(one: Outcome, low: int, good: int) -> Html:
    many = "" if one.orders == 1 else f", mean of {one.orders} orders"
    note = tag("span", f"{one.note}{many}", class_="soft") if one.note else None
    return tag(
        "tr",
        tag("th", one.name, tag("br") if note else None, note, scope="row"),
        tag("td", percent(one.epochs), share_bar(one.epochs), class_="n"),
        tag("td", f"{number(one.low_stopped)} of {low}", class_="n"),
        tag(
            "td",
            f"{number(one.good_stopped)} of {good}",
            share_bar(one.good_stopped / max(good, 1), "bar lost"),
            class_="n",
        ),
        tag("td", percent(one.best_kept, 0), class_="n"),
        tag("td", f"{100 * one.regret:.2f}", class_="n"),
        class_="ours" if one.name == "This callback" else None,
    )


def _caveats(found: Collection, replayed: Replay) -> Iterator[str]:
    yield (
        "Regret is how much lower the best accuracy that was found is than the best there was. Good is what "
        "the summary says. The other rules see the accuracy after each epoch, the callback the weights and "
        "losses as well, also inside the first epoch."
    )
    if any(one.orders > 1 for one in replayed.outcomes):
        yield (
            "ASHA, Hyperband and the median rule are Optuna’s SuccessiveHalvingPruner, HyperbandPruner and "
            "MedianPruner with their defaults (ASHA from one epoch on), fed the curves. They are after the "
            "best run only, and give up good ones for it; and they compare a run with those before it, so "
            "that the order matters: numbers are means over random orders."
        )
    stopped = sum(run.stopped for run in found.runs)
    if stopped:
        yield (
            f"{counted(stopped, 'stopped run')} left out, as nobody knows how it would have gone on: what "
            "the callback stopped shows here only where it was let finish (audit_share), so its savings are "
            "understated. A sweep with action='observe' compares fairly."
        )
