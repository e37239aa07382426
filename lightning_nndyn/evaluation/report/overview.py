"""The page's first section: all runs in a few numbers, and what is not known about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning_nndyn.evaluation.report.bar import Bar
from lightning_nndyn.evaluation.report.formatting import number, percent
from lightning_nndyn.evaluation.report.html import Html, join, tag
from lightning_nndyn.evaluation.report.records import Collection
from lightning_nndyn.evaluation.report.run import Run
from lightning_nndyn.evaluation.report.summary import Audit, Summary
from lightning_nndyn.evaluation.report.unknown import unknowns


def overview(found: Collection, bar: Bar, summary: Summary) -> Html:
    """The section."""
    missing = unknowns(found, bar)
    return tag(
        "section",
        tag("h2", "Summary", id="summary-heading"),
        tag("dl", *_cards(summary), class_="cards"),
        tag("h3", "How it was decided"),
        tag("dl", *_policy(found, bar), class_="facts"),
        tag("h3", "What is not known"),
        tag("ul", *(tag("li", sentence) for sentence in missing)) if missing else tag("p", _NOTHING_MISSING),
        id="summary",
        aria_labelledby="summary-heading",
    )


_NOTHING_MISSING = "Every run has finished, and one predictor has judged them all."


def _cards(summary: Summary) -> Iterator[Html]:
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items()))
    yield _card("Runs", str(summary.runs), statuses, "runs")
    yield _card("Epochs trained", number(summary.epochs), "", "epochs")
    if summary.statuses["stopped"]:
        share = summary.saved / max(summary.epochs + summary.saved, 1e-9)
        yield _card("Epochs saved", number(summary.saved), f"{percent(share)} of what was planned", "saved")
    share = summary.would_save / max(summary.epochs, 1e-9)
    told = f"{percent(share)} of those trained"
    yield _card("Epochs it would have saved", number(summary.would_save), told, "would-save")
    yield _condemned(summary)
    if summary.statuses["stopped"]:
        yield _card("Stopped while good already", str(summary.good_stopped), _of(summary), "good-stopped")
    if summary.audit is not None:
        yield _audit_card(summary.audit)


def _condemned(summary: Summary) -> Html:
    if not summary.known:
        return _card("Good runs condemned", "not known", "no run has ended", "good-condemned")
    low = f"{summary.low_condemned} of {summary.known - summary.good}"
    told = f"of those whose end is known; low ones: {low}"
    return _card("Good runs condemned", f"{summary.good_condemned} of {summary.good}", told, "good-condemned")


def _of(summary: Summary) -> str:
    return f"of {summary.statuses['stopped']} stopped runs"


def _audit_card(audit: Audit) -> Html:
    rate, name = audit.rate, "Good runs condemned, by the audit"
    if rate.rate is None:
        return _card(name, "not known", f"no good run among {audit.ended}", "audit")
    told = (
        f"inverse-probability estimate; above {percent(rate.lower_bound)} with a confidence of 95 %. From "
        f"{rate.num_good} good runs; {audit.condemned} condemned runs were let finish"
    )
    return _card(name, percent(rate.rate), told, "audit")


def _card(name: str, value: str, more: str, key: str) -> Html:
    return tag(
        "div",
        tag("dt", name),
        tag("dd", value, class_="number", data_number=key),
        tag("dd", more, class_="more") if more else None,
    )


def _policy(found: Collection, bar: Bar) -> Iterator[Html]:
    runs = found.runs
    rows = [
        ("Validation accuracy", found.metric or "none is known"),
        ("Low is", f"{bar} ({bar.origin}{_levels(runs, bar)})"),
        ("Predictor", _counted([run.predictor or "none" for run in runs])),
        ("Action", _counted([run.action for run in runs])),
        ("Stops when", _counted([_rule(run.policy) for run in runs])),
    ]
    return (join((tag("dt", name), tag("dd", value))) for name, value in rows)


def _levels(runs: Sequence[Run], bar: Bar) -> str:
    if bar.low_share is None:
        return ""
    levels = sorted({bar.of(run.classes) for run in runs})
    return f"; here {', '.join(percent(level) for level in levels)}"


def _counted(names: Sequence[str]) -> str:
    counts = Counter(names).most_common()
    return counts[0][0] if len(counts) == 1 else "; ".join(f"{name}: {count} runs" for name, count in counts)


def _rule(policy: Mapping[str, Any]) -> str:
    if not policy:
        return "not on record"
    if policy.get("threshold") is not None:
        return f"p_low is above {policy['threshold']:g}, a threshold that was set"
    sure = "" if policy.get("confidence") is None else f", {percent(policy['confidence'], 0)} sure"
    limits = ", ".join(
        f"{limit:.2f} with {'the curve' if kind == 'fused' else 'weights alone'}"
        for kind, limit in (policy.get("limits") or {}).items()
        if limit is not None
    )
    rate = percent(policy["max_false_stop_rate"], 0)
    return f"the risk is above that of all but {rate} of good runs{sure} ({limits or 'no limit'})"
