"""What the page's charts are drawn from: plain numbers, with no more digits than a chart shows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_nndyn.evaluation.report.formatting import decided, epochs, fate, outcome, percent
from lightning_nndyn.evaluation.report.low_runs import ReportRule
from lightning_nndyn.evaluation.report.recorded_run import RecordedRun, in_words
from lightning_nndyn.evaluation.report.records import RecordedRuns
from lightning_nndyn.evaluation.report.summary import TimeErrors
from lightning_nndyn.graph.statistics import LAYER_STATISTICS, QUANTILES
from lightning_nndyn.signature.snapshot import LAYER_FIELDS, STATISTICS, Snapshot

MOST_TIMES = 24
"""Times of a run whose signature is drawn; of more, those are taken that are farthest apart on the axis."""
MOST_LAYERS = 4000
"""Layers, over all runs and times, whose centralities are drawn: about 100 bytes each."""

_FIRST = {
    feature: LAYER_FIELDS.index(f"{feature}_{LAYER_STATISTICS[-len(QUANTILES)]}")
    for feature in ("degree", "eigenvector")
}


def payload(found: RecordedRuns, rule: ReportRule, errors: Sequence[TimeErrors]) -> dict[str, Any]:
    """All numbers of the page's charts, JSON-able."""
    drawn = with_layers(found.runs)
    return {
        "metric": found.metric or "accuracy",
        "statistics": STATISTICS,
        "bars": sorted(
            {_plain(rule.lowest_good_accuracy(run.classes)) for run in found.runs if run.best is not None}
        ),
        "limits": _limits(found.runs),
        "forecasts": [
            {"time": one.time, "runs": one.runs, "error": _plain(one.error), "rank": _plain(one.rank)}
            for one in errors
        ],
        "chosen": drawn[0] if drawn else 0,
        "runs": [_run(run, rule, found.metric, i in drawn) for i, run in enumerate(found.runs)],
    }


def embedded(content: Any) -> str:
    """JSON that no HTML parser takes for anything else, whatever names are in it."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def with_layers(runs: Sequence[RecordedRun]) -> list[int]:
    """Indices of the runs whose layers are drawn: all, or as many as fit, from the best to the worst."""
    known = [i for i, run in enumerate(runs) if run.layers]
    ranked = sorted(known, key=lambda i: -(runs[i].best or 0.0))
    sizes = [sum(len(snapshot.layers) for snapshot in runs[i].layers) for i in ranked]
    fits = len(ranked) if sum(sizes) <= MOST_LAYERS else max(1, int(MOST_LAYERS / np.mean(sizes)))
    return [ranked[k] for k in np.unique(np.linspace(0, len(ranked) - 1, fits).astype(int))] if ranked else []


def _run(run: RecordedRun, rule: ReportRule, metric: str, drawn: bool) -> dict[str, Any]:
    times = _spread(run.times)
    prediction = run.prediction
    return {
        "label": run.label,
        "status": run.status,
        "finished": run.finished,
        "outcome": outcome(run, rule),
        "fate": fate(run),
        "stop": run.decision.stop,
        "time": run.decision.epoch,
        "predicted": None if prediction is None else _plain(prediction.predicted_accuracy),
        "best": _plain(run.best),
        "epochs": run.epochs,
        "curve": [_plain(value) for value in run.curve],
        "verdicts": [
            [v.epoch, *map(_plain, (v.predicted_accuracy, v.p_low, v.risk)), v.kind, v.in_domain, v.note]
            for v in run.verdicts
        ],
        "times": [run.times[i] for i in times],
        "signature": [[_plain(value) for value in run.statistics[i]] for i in times],
        "chain": all(snapshot.topology == "chain" for snapshot in run.layers),
        "layers": [_layers(snapshot, run.layer_sizes) for snapshot in run.layers] if drawn else [],
        "facts": _facts(run, rule, metric),
    }


def _facts(run: RecordedRun, rule: ReportRule, metric: str) -> list[tuple[str, str]]:
    best = (
        run.no_accuracy
        if run.best is None
        else f"{percent(run.best)}; good from {percent(rule.lowest_good_accuracy(run.classes))}"
    )
    longest = f" of {epochs(run.planned)} at most" if run.planned else ""
    optimizer, steps = run.training.optimizer, run.training.steps_per_epoch
    facts = [
        ("Hyperparameters", in_words(run.hparams)),
        ("Ended", run.status),
        ("Decision", decided(run)),
        ("Exempt", run.exempt),
        (f"Best {metric or 'accuracy'}", best),
        ("Trained", f"{epochs(run.epochs)} epochs{longest}"),
        ("Predictor", f"{run.predictor or 'none'}, action={run.action}"),
        ("Trained by", f"{optimizer or 'an unknown optimizer'}, {steps or '?'} steps an epoch"),
        ("Record", str(run.file)),
    ]  # fmt: skip
    return [(name, value) for name, value in facts if value]


def _layers(snapshot: Snapshot, sizes: Sequence[int]) -> dict[str, Any]:
    fitting = len(sizes) == len(snapshot.layers)
    rows = []
    for i, (name, row) in enumerate(snapshot.layers.items()):
        quantiles = {
            feature: [_plain(value) or 0.0 for value in row[first : first + len(QUANTILES)]]
            for feature, first in _FIRST.items()
        }
        norm = _plain(row[LAYER_FIELDS.index("frobenius")]) or 0.0
        rows.append({"name": name, "size": sizes[i] if fitting else None, "norm": norm, **quantiles})
    return {"time": snapshot.epoch, "rows": rows}


def _limits(runs: Sequence[RecordedRun]) -> list[tuple[str, float]]:
    """The risks above which runs were stopped, where all runs had the same."""
    found = {json.dumps(run.policy.get("limits"), sort_keys=True) for run in runs if run.policy}
    if len(found) != 1 or any(run.policy.get("threshold") is not None for run in runs):
        return []
    limits = json.loads(found.pop()) or {}
    return [(kind, float(limit)) for kind, limit in limits.items() if limit is not None]


def _spread(times: Sequence[float]) -> list[int]:
    """Indices of at most `MOST_TIMES` times, the first and last among them."""
    if len(times) <= MOST_TIMES:
        return list(range(len(times)))
    places = np.log2(1 + 16 * np.array(times))
    wanted = np.linspace(places[0], places[-1], MOST_TIMES)
    return sorted({int(np.abs(places - place).argmin()) for place in wanted})


def _plain(value: float | None) -> float | None:
    """Five digits; None for what is not finite."""
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None
