"""What other stopping rules would have saved and lost on the same runs.

Only runs that finished can be replayed: how the others would have continued is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_nndyn.errors import MissingExtraError
from lightning_nndyn.evaluation.replay.policies import PATIENCES, Decided, NoStopping, Patience, pruner_epochs
from lightning_nndyn.evaluation.replay.result import ReplayResult, measure, replay
from lightning_nndyn.evaluation.replay.sampled_sweeps import ReplayRun
from lightning_nndyn.evaluation.report.low_runs import ReportRule
from lightning_nndyn.evaluation.report.recorded_run import RecordedRun

_PRUNERS = {"median": "Median rule", "asha": "ASHA", "hyperband": "Hyperband"}
"""Optuna's pruners that are replayed, and their names on the page."""

_MAX_VALUES = 400_000  # accuracies that are replayed in all orders together, which bounds the time
_MAX_ORDERS = 20


@dataclass(frozen=True)
class RuleResult:
    """A stopping rule on the runs of a report.

    Attributes:
        name: of the rule.
        note: its settings.
        orders: random orders that it was replayed in; 1 where the order does not matter.
        result: the mean over these orders.
    """

    name: str
    note: str
    orders: int
    result: ReplayResult


@dataclass(frozen=True)
class Replay:
    """All stopping rules on the same runs.

    Attributes:
        runs: number of runs that were replayed.
        good: number of good runs among them.
        epochs: that they were trained for together.
        rules: the results.
        missing: why there are no pruners; empty if there are.
    """

    runs: int
    good: int
    epochs: float
    rules: list[RuleResult]
    missing: str = ""


def replay_runs(runs: Sequence[RecordedRun], rule: ReportRule, seed: int = 0) -> Replay:
    """Replay the finished runs.

    Args:
        runs: all runs; those that did not finish are left out.
        rule: what is low.
        seed: of the orders.
    """
    # Sorted, so that the orders do not depend on the names of the runs, which are random.
    finished = sorted(
        (run for run in runs if run.finished), key=lambda run: [value or 0.0 for value in run.curve]
    )
    if not finished:
        return Replay(0, 0, 0.0, [])
    replayed = [
        ReplayRun(index, run.curve, float(len(run.curve)), run.best or 0.0, bool(rule.good(run)))
        for index, run in enumerate(finished)
    ]
    decided = {index: run.decision.epoch for index, run in enumerate(finished) if run.decision.stop}
    callback = Decided(decided, "This callback", "as it decided")
    rules = [
        RuleResult("No stopping", "", 1, replay(NoStopping(), [replayed])),
        RuleResult(callback.family, callback.setting, 1, replay(callback, [replayed])),
    ]
    for patience in PATIENCES:
        result, note = replay(Patience(patience), [replayed]), f"no better for {patience} epochs"
        rules.append(RuleResult(f"Patience {patience}", note, 1, result))
    missing = ""
    try:
        rules += [_pruned(name, replayed, seed) for name in _PRUNERS]
    except MissingExtraError as error:
        missing = str(error)
    good, epochs = sum(run.good for run in replayed), sum(run.epochs for run in replayed)
    return Replay(len(replayed), good, epochs, rules, missing)


def _pruned(name: str, runs: Sequence[ReplayRun], seed: int) -> RuleResult:
    """One of Optuna's pruners, in several random orders."""
    values = sum(run.epochs for run in runs)
    orders = int(np.clip(_MAX_VALUES / (values * np.sqrt(len(runs))), 1, _MAX_ORDERS))
    sweeps = [
        [runs[index] for index in np.random.default_rng([seed, number]).permutation(len(runs))]
        for number in range(orders)
    ]
    ends = [pruner_epochs(name, [run.curve for run in sweep], number) for number, sweep in enumerate(sweeps)]
    return RuleResult(_PRUNERS[name], "Optuna's, with its defaults", orders, measure(sweeps, ends))
