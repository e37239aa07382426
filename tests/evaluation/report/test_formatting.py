"""The page's filters, and its sums of epochs."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_nndyn.evaluation.report.formatting import table_filters
from lightning_nndyn.evaluation.report.summary import summarise


def run(good: bool | None, flagged: bool, stopped: bool = False, saved: float | None = 3.0) -> Any:
    decision = SimpleNamespace(stop=flagged)
    facts = {"finished": not stopped and good is not None, "flagged_to_stop": flagged and not stopped}
    return SimpleNamespace(
        name="one",
        good=good,
        decision=decision,
        stopped=stopped,
        saved=saved,
        epochs=2.0,
        status="s",
        **facts,
    )


RULE: Any = SimpleNamespace(good=lambda one: one.good)


@pytest.mark.parametrize(
    ("good", "flagged", "filters"),
    [
        (True, True, "decided mistakes"),
        (True, False, ""),
        (False, True, "decided"),
        (False, False, ""),
        (None, True, "decided unknown"),
        (None, False, "unknown"),
    ],
)
def test_a_mistake_is_a_good_run_that_was_to_be_stopped(
    good: bool | None, flagged: bool, filters: str
) -> None:
    assert table_filters(run(good, flagged), RULE) == filters


def test_epochs_are_saved_by_stopped_runs_alone_and_would_be_by_those_that_were_flagged() -> None:
    runs = [
        run(None, True, stopped=True, saved=5.0),
        run(True, True, stopped=True, saved=None),
        run(True, True, saved=4.0),
        run(False, True, saved=2.0),
        run(False, False, saved=100.0),
    ]
    found: Any = SimpleNamespace(runs=runs, folders=[])
    summary = summarise(found, RULE)
    assert (summary.saved, summary.would_save, summary.no_plan, summary.epochs) == (5.0, 6.0, 1, 10.0)
    assert (summary.known, summary.good, summary.good_flagged, summary.low_flagged) == (3, 1, 1, 1)
    assert summary.good_stopped == 1 and summary.audit is None and summary.statuses == Counter(s=5)
