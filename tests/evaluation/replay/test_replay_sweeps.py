"""The command: interrupted, continued, and with published rows."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from paths import CORPORA
from typer.testing import CliRunner

from lightning_nndyn.cli import app
from lightning_nndyn.evaluation.benchmark.judged_runs import held_out_folds
from lightning_nndyn.evaluation.cache import Part
from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.evaluation.replay import held_out_predictors, replay_sweeps
from lightning_nndyn.evaluation.replay.learned_policies import Surrogate
from lightning_nndyn.evaluation.replay.policies import (
    name_of,
    policies_to_compare,
)
from lightning_nndyn.evaluation.replay.result import ReplayResult, replay
from lightning_nndyn.evaluation.replay.rows import DEFAULTS, ReplayRow, summary, summary_table
from lightning_nndyn.evaluation.result_file import read_rows

ALEXNET = CORPORA / "alexnet-cifar10.parquet"


def small(*arguments: str, folder: Path) -> Any:
    fixed = [
        "--sweeps",
        "3",
        "--size",
        "12",
        "--output",
        str(folder / "out"),
        "--cache",
        str(folder / "cache"),
    ]
    return CliRunner().invoke(app, ["evaluate", "sweep", str(ALEXNET), *fixed, *arguments])


def oracle(collection: RunDataset, number: int, seed: int) -> Part:
    """Knows how runs end."""
    test = held_out_folds(collection, seed)[number]
    ends = {str(place): float(collection.accuracies[place]) for place in test}
    low = {place: 0.25 for place, end in ends.items() if end < 0.25}
    return {
        "stops": {
            kind: {str(rate): low for rate in held_out_predictors.RATES} for kind in held_out_predictors.KINDS
        },
        "scores": {
            kind: {str(time): ends for time in held_out_predictors.TIMES}
            for kind in held_out_predictors.KINDS
        },
    }


@pytest.mark.needs("optuna", "pyarrow", "matplotlib")
def test_a_replay_that_was_cut_goes_on_to_rows_and_a_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What takes its time has tests of its own.
    monkeypatch.setattr(replay_sweeps, "judge_fold", oracle)
    quick = [policy for policy in policies_to_compare() if not isinstance(policy, Surrogate)]
    monkeypatch.setattr(replay_sweeps, "policies_to_compare", lambda: quick)
    played: list[str] = []
    count = replay
    monkeypatch.setattr(
        replay_sweeps,
        "replay",
        lambda policy, drawn: (played.append(name_of(policy)), count(policy, drawn))[1],
    )
    late = small("--minutes", "0", folder=tmp_path)
    assert late.exit_code == 0 and "run the same command again" in late.output
    assert not played and not (tmp_path / "out").exists()

    def cut(policy: Any, drawn: Any) -> ReplayResult:
        if len(played) == 7:
            raise KeyboardInterrupt
        played.append(name_of(policy))
        return count(policy, drawn)

    with monkeypatch.context() as patch:
        patch.setattr(replay_sweeps, "replay", cut)
        assert small(folder=tmp_path).exit_code == 130
    result = small(folder=tmp_path)
    assert result.exit_code == 0, result.output
    assert set(Counter(played).values()) == {2}  # in each of two bands once
    rows = tmp_path / "out" / "replay.parquet"
    written = rows.read_bytes()
    shutil.rmtree(tmp_path / "cache")  # what is published is kept, too, as in a fresh clone
    assert small(folder=tmp_path).exit_code == 0 and set(Counter(played).values()) == {2}
    assert rows.read_bytes() == written
    content, notes = read_rows(rows)
    page = (tmp_path / "out" / "replay.md").read_text()
    assert "| no stopping | nothing | 100 | 0.00 | 0 |" in page and "](replay.svg)" in page
    assert (tmp_path / "out" / "replay.svg").stat().st_size > 10_000
    assert small("--seed", "1", folder=tmp_path).exit_code == 0 and set(Counter(played).values()) == {4}
    assert rows.read_bytes() != written

    assert notes == {"sweeps": 3, "size": 12}
    keys = {"corpus", "band", "policy", "epochs_share", "regret", "good_stopped", "best_kept", "part"}
    keys |= {"family", "ours", "knows"}
    assert all(set(row) == keys for row in content)
    assert len(content) == 2 * len(set(played)) == len({(r["band"], r["policy"]) for r in content})
    assert {row["band"] for row in content} == {"all", "trainable"}
    assert all(0 < row["epochs_share"] <= 1 and 0 <= row["regret"] < 1 for row in content)
    assert set(DEFAULTS) - set(played) == {"race by universal, keeping 6 %"}  # with several corpora alone
    knowing = [row for row in content if row["policy"].startswith("weights")]
    assert all(row["regret"] == 0 and row["best_kept"] == 1 for row in knowing)
    assert all(row["good_stopped"] == 0 for row in knowing if "false stops" in row["policy"])


def test_a_summary_says_where_a_rule_misses_most() -> None:
    def outcome(corpus: str, policy: str, regret: float) -> ReplayRow:
        return ReplayRow(corpus, "all", policy, 0.3, regret, 0.0, 1.0, "", policy, False, "nothing", 0.0)

    rows = [outcome("c", "MedianPruner", 0.004), outcome("d", "MedianPruner", 0.012), outcome("d", "x", 0.0)]
    (found,) = summary(rows)
    assert (found.missed, found.most_missed, found.corpus) == (pytest.approx(0.8), 1.2, "d")
    assert summary_table([found]).endswith("| Optuna's `MedianPruner` | nothing | 30 | 0.80 | 1.20 (d) |")


def test_corpora_without_a_command_mean_predictions(tmp_path: Path) -> None:
    for words in (["evaluate"], ["evaluate", "predictions"]):
        refused = CliRunner().invoke(app, [*words, str(tmp_path / "nowhere"), "--output", str(tmp_path)])
        assert "is no corpus folder" in str(refused.exception)
    shown = " ".join(CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "160"}).output.split())
    assert "nndyn evaluate sweep lenet5-digits" in shown
    assert "is nndyn evaluate predictions" in shown
