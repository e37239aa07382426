"""The sections with charts: words and controls. What is drawn in them is up to the scripts."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_nndyn.evaluation.report import captions
from lightning_nndyn.evaluation.report.bar import Bar
from lightning_nndyn.evaluation.report.chart_data import with_layers
from lightning_nndyn.evaluation.report.forecasts import Forecast
from lightning_nndyn.evaluation.report.formatting import epochs, outcome
from lightning_nndyn.evaluation.report.html import Html, tag
from lightning_nndyn.evaluation.report.marks import line_legend, moment_items, spot_legend
from lightning_nndyn.evaluation.report.records import Collection

_NUMBERS = {"curves": "Accuracies", "forecast": "Predictions"}
_LINEAR = (("log", "early epochs wide"), ("linear", "linear"))


def curves(found: Collection, bar: Bar) -> Html:
    """Validation accuracy over epochs."""
    drawn = [run for run in found.runs if run.best is not None]
    if not drawn:
        return _section("curves", "Runs over time", tag("p", "No run has a validation accuracy on record."))
    counts = {kind: sum(outcome(run, bar) == kind for run in drawn) for kind in ("good", "low", "unknown")}
    label = (
        f"Validation accuracy of {len(drawn)} runs over epochs: {counts['good']} good, {counts['low']} low, "
        f"{counts['unknown']} whose end is not known"
    )
    return _section(
        "curves",
        "Runs over time",
        tag("div", _axis(), class_="controls"),
        _figure("curves", label, captions.CURVES, line_legend(*moment_items())),
    )


def predictions(found: Collection, said: Sequence[Forecast]) -> Html:
    """Predicted against true accuracy."""
    title = "Predicted against true accuracy"
    if not said:
        return _section("forecast", title, tag("p", "No run with a known end has a prediction on record."))
    middle = len(said) // 2
    slider = tag("input", type="range", id="forecast-time", min=0, max=len(said) - 1, step=1, value=middle)
    choices = (("accuracy", "predicted accuracy"), ("risk", "risk, and the budget’s limit"))
    options = [tag("option", text, value=value) for value, text in choices]
    label = "Predicted against best validation accuracy of runs with a known end"
    return _section(
        "forecast",
        title,
        tag(
            "div",
            tag("label", _shown("Time", "forecast"), slider),
            tag("label", "Vertical axis", tag("select", *options, id="forecast-axis")),
            class_="controls",
        ),
        tag("p", _forecast_words(said[middle]), id="forecast-told", role="status"),
        _figure("forecast", label, captions.FORECAST, spot_legend()),
        _forecast_table(said),
    )


def _forecast_words(one: Forecast) -> str:
    rank = "not defined" if one.rank is None else f"{one.rank:.2f}"
    return (
        f"After {epochs(one.time)} epochs: {one.runs} runs with a prediction and a known end; mean error "
        f"{100 * one.error:.1f} points, rank correlation {rank}."
    )


def _forecast_table(said: Sequence[Forecast]) -> Html:
    heads = [
        tag("th", name, scope="col", class_="n")
        for name in ("After epochs", "Runs", "Mean error, points", "Rank correlation")
    ]
    rows = [
        tag(
            "tr",
            tag("th", epochs(one.time), scope="row", class_="n"),
            tag("td", one.runs, class_="n"),
            tag("td", f"{100 * one.error:.1f}", class_="n"),
            tag("td", "–" if one.rank is None else f"{one.rank:.2f}", class_="n"),
        )
        for one in said
    ]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), id="forecast-table")
    box = tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="Errors at each time")
    return tag("details", tag("summary", "Errors at each time"), box)


def signature(found: Collection) -> Html:
    """The ten statistics over time."""
    label = f"{len(found.runs)} runs, medians of good and low runs in the table below"
    return _section(
        "signature",
        "How the signature moved",
        tag("div", _axis(), class_="controls"),
        tag(
            "figure",
            line_legend(),
            tag("div", id="signature-charts", class_="many", data_label=label),
            tag("figcaption", captions.SIGNATURE),
            _numbers("signature", "Medians as a table"),
        ),
    )


def layers(found: Collection) -> Html:
    """The rolled graph, layer by layer."""
    title = "The rolled graph, layer by layer"
    drawn = sorted(with_layers(found.runs))
    if not drawn:
        return _section(
            "layers", title, tag("p", "No record has numbers for each layer: the weights were never finite.")
        )
    runs = [tag("option", found.runs[i].label, value=i) for i in drawn]
    features = [("eigenvector", "eigenvector centrality"), ("degree", "weighted degree")]
    options = [tag("option", text, value=value) for value, text in features]
    some = (
        "" if len(drawn) == len(found.runs) else f" {len(drawn)} of {len(found.runs)} runs are in this page."
    )
    return _section(
        "layers",
        title,
        tag(
            "div",
            tag("label", "Run", tag("select", *runs, id="layers-run")),
            tag(
                "label",
                _shown("Time", "layers"),
                tag("input", type="range", id="layers-time", min=0, max=1, step=1, value=9),
            ),
            tag("label", "Size of the dots", tag("select", *options, id="layers-feature")),
            class_="controls",
        ),
        tag("p", captions.UNORDERED, id="layers-order", hidden=True),
        tag(
            "figure",
            tag(
                "div",
                tag(
                    "div",
                    id="layers-chart",
                    data_label="Layers of the rolled graph, dots sized by centrality",
                ),
                class_="chart wide",
                tabindex=0,
                role="region",
                aria_label="The rolled graph; scrolls sideways",
            ),
            tag("figcaption", captions.LAYERS, some),
            _numbers("layers", "Quantiles as a table"),
        ),
    )


def detail(found: Collection) -> Html:
    """One run at a time."""
    options = [tag("option", run.label, value=i) for i, run in enumerate(found.runs)]
    heads = [
        tag("th", name, scope="col", class_=kind or None)
        for name, kind in (
            ("After epochs", "n"),
            ("Predicted", "n"),
            ("p(low)", "n"),
            ("Risk", "n"),
            ("Reads", ""),
            ("Known", ""),
            ("Note", ""),
        )
    ]
    table = tag(
        "table",
        tag(
            "caption",
            "What the predictor said. “Known” tells whether the run resembles those it was fitted to.",
        ),
        tag("thead", tag("tr", *heads)),
        tag("tbody", id="run-verdicts"),
    )
    return _section(
        "run",
        "One run",
        tag("div", tag("label", "Run", tag("select", *options, id="run-select")), class_="controls"),
        tag("h3", "Run", id="run-heading", tabindex=-1),
        tag("dl", id="run-facts", class_="facts"),
        tag(
            "figure",
            tag("div", id="run-chart", class_="chart"),
            tag(
                "figcaption", "Squares: predicted accuracy at each verdict. Thick line: validation accuracy."
            ),
        ),
        tag("p", "There was no verdict on this run.", id="run-silent", hidden=True),
        tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="Verdicts on this run"),
    )


def _shown(name: str, key: str) -> Html:
    """A slider's name, and in words what it stands at."""
    return tag("span", name, tag("output", id=f"{key}-shown", for_=f"{key}-time"))


def _axis() -> Html:
    options = [tag("option", text, value=value) for value, text in _LINEAR]
    return tag("label", "Epoch axis", tag("select", *options, class_="epoch-axis"))


def _figure(key: str, label: str, caption: str, legend: Html) -> Html:
    return tag(
        "figure",
        legend,
        tag("div", id=f"{key}-chart", class_="chart", data_label=label),
        tag("p", captions.HINT, id=f"{key}-readout", class_="readout", data_rest=captions.HINT),
        tag("figcaption", caption),
        _numbers(key, f"{_NUMBERS[key]} as a table"),
    )


def _numbers(key: str, text: str) -> Html:
    return tag("details", tag("summary", text), id=f"{key}-numbers")


def _section(key: str, title: str, *children: object) -> Html:
    return tag(
        "section", tag("h2", title, id=f"{key}-title"), *children, id=key, aria_labelledby=f"{key}-title"
    )
