"""Renders and writes the page: one file that loads nothing, and whose policy forbids it to."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lightning_nndyn import __version__
from lightning_nndyn._files import write_atomically
from lightning_nndyn.callback.record_file import PolicyFacts
from lightning_nndyn.errors import ReportError
from lightning_nndyn.evaluation.report import formatting
from lightning_nndyn.evaluation.report.chart_data import MOST_TIMES, embedded, payload, with_layers
from lightning_nndyn.evaluation.report.low_runs import DEFAULT, ReportRule, report_rule
from lightning_nndyn.evaluation.report.recorded_run import RecordedRun, in_words
from lightning_nndyn.evaluation.report.records import RecordedRuns, load
from lightning_nndyn.evaluation.report.replay import Replay, replay_runs
from lightning_nndyn.evaluation.report.summary import Summary, prediction_errors, summarise
from lightning_nndyn.predictor.verdict import CURVE, WEIGHTS_AND_CURVE

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
            doubles=found.doubles,
            metric=found.metric,
            other_metrics=sorted({name for run in found.runs for name in run.logged} - {found.metric}),
            rule_is_known=rule.rule != DEFAULT or any(run.policy for run in found.runs),
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
    environment.filters |= (
        {"in_words": in_words}
        | {name: getattr(formatting, name) for name in shown}
        | {
            "sha256": _sha256,
            "tally": _tally,
        }
    )
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


def _tally(values: Iterable[str | None]) -> list[tuple[str, int]]:
    """How often each value occurs, the commonest first; what is empty does not count."""
    return Counter(filter(None, values)).most_common()


def _with_counts(names: Sequence[str]) -> str:
    counts = _tally(names)
    return counts[0][0] if len(counts) == 1 else "; ".join(f"{name}: {count} runs" for name, count in counts)


_KINDS = {WEIGHTS_AND_CURVE: "the curve", CURVE: "the curve alone"}


def _rule(policy: PolicyFacts) -> str:
    """When a run is stopped, in words."""
    if "max_false_stop_rate" not in policy:
        return "not on record"
    if (threshold := policy.get("threshold")) is not None:
        return f"p_low is above {threshold:g}, a threshold that was set"
    confidence = policy.get("confidence")
    sure = "" if confidence is None else f", {formatting.percent(confidence, 0)} sure"
    limits = ", ".join(
        f"{limit:.2f} with {_KINDS.get(kind, 'weights alone')}"
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


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        file: the page.
        size: its bytes.
        summary: the runs in numbers.
        replayed: other ways of stopping on the same runs.
        unreadable: for each record that could not be read, and each path without any, why.
        all_used: whether a record could be read in each of the given paths.
    """

    file: Path
    size: int
    summary: Summary
    replayed: Replay
    unreadable: list[str]
    all_used: bool


def write_report(
    paths: Sequence[Path | str],
    output: Path | str,
    *,
    metric: str | None = None,
    low_threshold: float | None = None,
    low_share: float | None = None,
    title: str = "Training runs",
    seed: int = 0,
) -> Report:
    """Writes one self-contained HTML page about recorded runs; it appears whole or not at all.

    Args:
        paths: folders, searched with all folders in them, and records (``nndyn-*.json``).
        output: the page's file; an existing one is replaced.
        metric: the validation accuracy; None takes what most runs have as their `monitor`.
        low_threshold: accuracy below which a run is low; None takes the predictor's, as records tell it.
        low_share: instead of it, a share of the best accuracy.
        title: the page's.
        seed: of the orders in which other ways of stopping meet the runs.

    Raises:
        ReportError: there is no record that can be read, an argument is out of its range, or the page cannot
            be written.
    """
    found = load([Path(path) for path in paths], metric)
    rule = report_rule(found.runs, low_threshold, low_share)
    summary, replayed = summarise(found, rule), replay_runs(found.runs, rule, seed)
    content = page(found, rule, summary, replayed, title).encode(
        errors="backslashreplace"
    )  # a folder's name may be no Unicode
    _write(Path(output), content)
    unreadable = [*found.unreadable.values(), *found.missing]
    return Report(Path(output), len(content), summary, replayed, unreadable, found.all_used)


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ReportError(f"cannot write the page to {str(path)!r} ({error}): give another place") from error
