"""Other ways of stopping, replayed on recorded runs, beside what the callback decided."""

from __future__ import annotations

import re
import statistics
import sys
from pathlib import Path

import pytest
from report_page import Page
from report_runs import EPOCHS, accuracy, low_below, records

from lightning_nndyn.corpus.storage.record import patience_epoch
from lightning_nndyn.evaluation.replay.policies import pruner_epochs
from lightning_nndyn.evaluation.report import write_report


def curves(sweep: Path) -> list[list[float]]:
    return [one["metrics"]["val_accuracy"] for one in records(sweep) if one["status"] == "finished"]


def test_patience_counts_epochs_without_a_better_accuracy() -> None:
    curve = [0.1, 0.3, 0.3, None, 0.2, 0.5, 0.4, 0.4]
    assert [patience_epoch(curve, patience) for patience in (1, 2, 3)] == [3, 5, None]
    assert patience_epoch([0.1, 0.2, 0.3], 1) is None


@pytest.mark.needs("optuna")
def test_optuna_s_median_rule_is_the_median_rule(sweep: Path) -> None:
    order = sorted(curves(sweep), key=lambda curve: -curve[-1])
    completed: list[list[float]] = []
    expected = []
    for curve in order:
        ended = len(curve)
        for epoch in range(1, len(curve) + 1):
            if len(completed) >= 5 and max(curve[:epoch]) < statistics.median(
                one[epoch - 1] for one in completed
            ):
                ended = epoch
                break
        completed += [curve] if ended == len(curve) else []
        expected.append(ended)
    assert pruner_epochs("median", order, seed=0) == expected
    assert min(expected) < EPOCHS


@pytest.mark.needs("optuna")
def test_halving_ends_most_runs_early_and_keeps_the_best_where_it_comes_first(sweep: Path) -> None:
    order = sorted(curves(sweep), key=lambda curve: -curve[0])
    for name in ("asha", "hyperband"):
        epochs = pruner_epochs(name, order, seed=0)
        assert epochs[0] == EPOCHS and epochs == pruner_epochs(name, order, seed=0)
    assert sum(pruner_epochs("asha", order, seed=0)) < EPOCHS * len(order)


def test_the_comparison_counts_what_the_callback_decided(sweep: Path, page: Page) -> None:
    finished = [one for one in records(sweep) if one["status"] == "finished"]
    spent = sum(one["decision"]["epoch"] if one["decision"]["stop"] else EPOCHS for one in finished)
    low = [one for one in finished if accuracy(one) < low_below()]
    caught = sum(one["decision"]["stop"] and one["decision"]["epoch"] < EPOCHS for one in low)
    rows = {re.split("as it|no better|Optuna", row[0])[0]: row[1:] for row in page.rows("comparison-table")}
    assert rows["No stopping"] == ["100.0 %", f"0 of {len(low)}", f"0 of {8 - len(low)}", "100 %", "0.00"]
    ours = rows["This callback"]
    assert ours[:2] == [f"{100 * spent / (EPOCHS * 8):.1f} %", f"{caught} of {len(low)}"]
    assert "1 stopped run left out" in page.text(id="comparison")


def test_without_optuna_the_page_says_how_to_get_it(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    page = Page(write_report([sweep], tmp_path / "report.html").file.read_text())
    assert "pip install 'lightning-nndyn[optuna]'" in page.text(id="comparison")
    assert len(page.rows("comparison-table")) == 4
