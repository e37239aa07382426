"""The command: interrupted, continued, and with published rows."""

from __future__ import annotations

import json
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
from lightning_nndyn.evaluation.replay.tables import BandSummary, ReplayRow, equal_regret, goal_text

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
def test_a_replay_that_was_cut_goes_on_to_rows_tables_and_a_figure(
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
    page = tmp_path / "out" / "replay.md"
    page.write_text(page.read_text().replace("<!-- begin", "# By hand\n\n<!-- begin"))
    written = (tmp_path / "out" / "replay.json").read_bytes()
    for lost in ("cache", "out/figures"):  # what is published is kept, too, as in a fresh clone
        shutil.rmtree(tmp_path / lost)
    assert small(folder=tmp_path).exit_code == 0 and set(Counter(played).values()) == {2}
    assert (tmp_path / "out" / "replay.json").read_bytes() == written
    assert small("--seed", "1", folder=tmp_path).exit_code == 0 and set(Counter(played).values()) == {4}
    assert (tmp_path / "out" / "replay.json").read_bytes() != written
    assert page.read_text().startswith("# By hand\n") and "| no stopping | 100.0 | 0.00 |" in page.read_text()
    assert (tmp_path / "out" / "figures" / "replay.png").stat().st_size > 20_000

    content = json.loads(written)
    assert (content["sweeps"], content["size"]) == (3, 12)
    keys = {"corpus", "band", "policy", "epochs_share", "regret", "good_stopped", "best_kept", "part"}
    assert all(set(row) == keys for row in content["rows"])
    assert (
        len(content["rows"])
        == 2 * len(set(played))
        == len({(r["band"], r["policy"]) for r in content["rows"]})
    )
    assert {row["band"] for row in content["rows"]} == {"all", "trainable"}
    assert all(0 < row["epochs_share"] <= 1 and 0 <= row["regret"] < 1 for row in content["rows"])
    knowing = [row for row in content["rows"] if row["policy"].startswith("weights")]
    assert all(row["regret"] == 0 and row["best_kept"] == 1 for row in knowing)
    assert all(row["good_stopped"] == 0 for row in knowing if "false stops" in row["policy"])


def test_the_fewest_epochs_at_equal_regret_are_found_on_either_side() -> None:
    def outcome(policy: str, epochs: float, regret: float, ours: bool) -> ReplayRow:
        return ReplayRow("c", "all", policy, epochs, regret, 0.0, 1.0, "", policy, ours, 0.0)

    outcomes = [
        outcome("all", 1.0, 0.0, False),
        outcome("other", 0.3, 0.004, False),
        outcome("worse", 0.4, 0.004, False),
        outcome("mine", 0.09, 0.004, True),
    ]
    lines = {
        line[2]: line[3:] for line in equal_regret(outcomes, [BandSummary("c", "all", 9, 9, (9, 9), 1)]).lines
    }
    words = goal_text(outcomes, [BandSummary("c", "all", 9, 9, (9, 9), 1)])
    assert words == "Ours spend a third or less in 3 of 3 comparisons: c in 3 of 3 (0.30 to 0.30)."
    assert lines["0.25"] == ["all", "100.0", "none", "", ""]
    assert lines["0.5"] == ["other", "30.0", "mine", "9.0", "0.30"]


def test_corpora_without_a_command_mean_predictions(tmp_path: Path) -> None:
    for words in (["evaluate"], ["evaluate", "predictions"]):
        refused = CliRunner().invoke(app, [*words, str(tmp_path / "nowhere"), "--output", str(tmp_path)])
        assert "is no corpus folder" in str(refused.exception)
    shown = " ".join(CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "160"}).output.split())
    assert "nndyn evaluate sweep lenet5-digits" in shown
    assert "is nndyn evaluate predictions" in shown
