"""Renders the page: one file that loads nothing, and whose policy forbids it to."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lightning_nndyn import __version__
from lightning_nndyn.callback.record_file import PolicyFacts
from lightning_nndyn.evaluation.report import formatting
from lightning_nndyn.evaluation.report.chart_data import MOST_TIMES, embedded, payload, with_layers
from lightning_nndyn.evaluation.report.low_runs import ReportRule
from lightning_nndyn.evaluation.report.recorded_run import RecordedRun
from lightning_nndyn.evaluation.report.records import RecordedRuns
from lightning_nndyn.evaluation.report.replay import Replay
from lightning_nndyn.evaluation.report.summary import Summary, prediction_errors, unknowns

_PACKAGE = "lightning_nndyn.evaluation.report"
_SCRIPTS = ("base", "plot", "curves", "forecast", "signature", "layers", "detail", "table", "start")


def page(found: RecordedRuns, rule: ReportRule, summary: Summary, replayed: Replay, title: str) -> str:
    """The page's text."""
    errors = prediction_errors(found.runs)
    return (
        _templates()
        .get_template("page.html")
        .render(
            title=title,
            now=datetime.now(),
            runs=found.runs,
            rule=rule,
            summary=summary,
            statuses=", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items())),
            policy_facts=_policy_facts(found, rule),
            unknowns=unknowns(found, rule),
            errors=errors,
            replayed=replayed,
            with_layers=with_layers(found.runs),
            unreadable=list(found.unreadable.values()),
            data=Markup(embedded(payload(found, rule, errors))),
            style=Markup(_asset("page.css")),
            script=Markup(_script()),
        )
        + "\n"
    )


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = ("counted", "epochs", "fate", "number", "percent", "why")
    environment.filters |= {name: getattr(formatting, name) for name in shown} | {"sha256": _sha256}
    environment.globals |= {
        "MOST_TIMES": MOST_TIMES,
        "OUTCOMES": formatting.OUTCOMES,
        "outcome": formatting.outcome,
        "outcomes_of": formatting.outcomes_of,
        "table_filters": formatting.table_filters,
        "version": __version__,
    }
    return environment


def _policy_facts(found: RecordedRuns, rule: ReportRule) -> list[tuple[str, str]]:
    runs = found.runs
    return [
        ("Validation accuracy", found.metric or "none is known"),
        ("Low is", f"{rule} ({rule.origin}{_levels(runs, rule)})"),
        ("Predictor", _with_counts([run.predictor or "none" for run in runs])),
        ("Action", _with_counts([run.action for run in runs])),
        ("Stops when", _with_counts([_rule(run.policy) for run in runs])),
    ]


def _levels(runs: Sequence[RecordedRun], rule: ReportRule) -> str:
    if rule.rule.share is None:
        return ""
    levels = sorted({rule.lowest_good_accuracy(run.classes) for run in runs})
    return f"; here {', '.join(map(formatting.percent, levels))}"


def _with_counts(names: Sequence[str]) -> str:
    counts = Counter(names).most_common()
    return counts[0][0] if len(counts) == 1 else "; ".join(f"{name}: {count} runs" for name, count in counts)


def _rule(policy: PolicyFacts) -> str:
    """When a run is stopped, in words."""
    if "max_false_stop_rate" not in policy:
        return "not on record"
    if (threshold := policy.get("threshold")) is not None:
        return f"p_low is above {threshold:g}, a threshold that was set"
    confidence = policy.get("confidence")
    sure = "" if confidence is None else f", {formatting.percent(confidence, 0)} sure"
    limits = ", ".join(
        f"{limit:.2f} with {'the curve' if kind == 'fused' else 'weights alone'}"
        for kind, limit in (policy.get("limits") or {}).items()
        if limit is not None
    )
    rate = formatting.percent(policy["max_false_stop_rate"], 0)
    return f"the risk is above that of all but {rate} of good runs{sure} ({limits or 'no limit'})"


@cache
def _script() -> str:
    parts = "\n".join(_asset(f"{name}.js") for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


def _asset(name: str) -> str:
    return (files(_PACKAGE) / "assets" / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
