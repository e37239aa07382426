"""The whole page: one file that loads nothing, and whose policy forbids it to."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from functools import cache
from importlib.resources import files

from lightning_nndyn import __version__
from lightning_nndyn.evaluation.report import figures
from lightning_nndyn.evaluation.report.bar import Bar
from lightning_nndyn.evaluation.report.chart_data import embedded, payload
from lightning_nndyn.evaluation.report.comparison import comparison
from lightning_nndyn.evaluation.report.forecasts import forecasts
from lightning_nndyn.evaluation.report.formatting import counted
from lightning_nndyn.evaluation.report.html import Html, tag
from lightning_nndyn.evaluation.report.ledger import ledger
from lightning_nndyn.evaluation.report.overview import overview
from lightning_nndyn.evaluation.report.records import Collection
from lightning_nndyn.evaluation.report.replay import Replay
from lightning_nndyn.evaluation.report.summary import Summary

_SCRIPTS = ("base", "plot", "curves", "forecast", "signature", "layers", "detail", "table", "start")
_SECTIONS = {
    "summary": "Summary",
    "ledger": "Ledger",
    "curves": "Runs over time",
    "forecast": "Predicted against true",
    "comparison": "Other ways",
    "signature": "Signature",
    "layers": "Graph",
    "run": "One run",
}
_NO_SCRIPT = (
    "The charts are drawn by a script in this file, which does not run here. Summary, ledger and comparison "
    "do without."
)


def page(found: Collection, bar: Bar, summary: Summary, replayed: Replay, title: str) -> str:
    """The page's text."""
    said = forecasts(found.runs)
    main = tag(
        "main",
        tag("noscript", tag("p", _NO_SCRIPT)),
        overview(found, bar, summary),
        ledger(found, bar),
        figures.curves(found, bar),
        figures.predictions(found, said),
        comparison(found, replayed),
        figures.signature(found),
        figures.layers(found),
        figures.detail(found),
        _unreadable(found),
        id="main",
    )
    body = tag("body", _header(found, title), main, _footer(), _data(embedded(payload(found, bar, said))))
    return f"<!DOCTYPE html>\n{tag('html', _head(title), body, lang='en')}\n"


def _head(title: str) -> Html:
    style = _asset("page.css")
    # The file names what may run by its hash: nothing else does, whatever a record holds.
    policy = (
        f"default-src 'none'; script-src '{_hash(_script())}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content=f"lightning-nndyn {__version__}"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Html(style)),
    )


def _header(found: Collection, title: str) -> Html:
    links = [tag("li", tag("a", text, href=f"#{key}")) for key, text in _SECTIONS.items()]
    return tag(
        "header",
        tag("a", "Skip to the summary", href="#main", class_="skip"),
        tag(
            "div",
            tag("h1", title),
            tag("button", "Dark theme", type="button", id="theme", aria_pressed="false", hidden=True),
            class_="top",
        ),
        tag("p", f"{counted(len(found.runs), 'run')}, as of {datetime.now():%Y-%m-%d %H:%M}", class_="soft"),
        tag("nav", tag("ul", *links), aria_label="Sections"),
    )


def _footer() -> Html:
    return tag("footer", tag("p", f"Made by nndyn report, lightning-nndyn {__version__}. It loads nothing."))


def _unreadable(found: Collection) -> Html | None:
    if not found.unreadable:
        return None
    items = [tag("li", reason) for reason in found.unreadable.values()]
    heading = tag("h2", "Records that cannot be read", id="unreadable-title")
    return tag("section", heading, tag("ul", *items), id="unreadable", aria_labelledby="unreadable-title")


def _data(content: str) -> Html:
    return Html(f'<script type="application/json" id="data">{content}</script>\n<script>{_script()}</script>')


@cache
def _script() -> str:
    parts = "\n".join(_asset(f"{name}.js") for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


def _asset(name: str) -> str:
    return (files("lightning_nndyn.evaluation.report") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
