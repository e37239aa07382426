"""Recorded runs are ranked among each other, from Python and from the command line."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from callback_runs import trainer
from digits_runs import shared
from sweep_runs import Perceptron
from typer.testing import CliRunner

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.cli import app
from lightning_nndyn.errors import SweepError
from lightning_nndyn.evaluation.rank_recorded_runs import RunRanking, rank_runs

RATES = (1e-6, 0.05, 1e-4, 0.1)  # the second and the fourth learn


@shared
def records_to_rank() -> dict[str, bytes]:
    """Records of four runs of a perceptron on digits, two of which learn; one file in a folder each."""
    with tempfile.TemporaryDirectory() as place:
        for number, rate in enumerate(RATES):
            folder = Path(place) / f"version_{number}"
            callback = GraphDynamicsCallback(None, monitor="val_acc", record=folder, verbose=False)
            model = Perceptron(rate)
            trainer(callback, max_epochs=2, limit_train_batches=8).fit(model)
        files = Path(place).rglob("nndyn-*.json")
        return {str(file.relative_to(place)): file.read_bytes() for file in files}


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for name, content in records_to_rank().items():
        (tmp_path / "logs" / name).parent.mkdir(parents=True)
        (tmp_path / "logs" / name).write_bytes(content)
    return tmp_path / "logs"


def changed(logs: Path, version: int, **values: Any) -> None:
    file = next((logs / f"version_{version}").iterdir())
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def order(ranking: RunRanking) -> list[int]:
    return [int(one.file.parent.name[-1]) for one in ranking.runs]


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["rank", *map(str, arguments)], env={"COLUMNS": "200"})


def test_runs_that_learn_come_first(logs: Path) -> None:
    found = rank_runs([logs])
    assert set(order(found)[:2]) == {1, 3} and str(found.metric).startswith("val_acc (higher is better")
    assert all(one.status == "finished" and one.time == 2 and one.best == one.run.value for one in found.runs)
    scores = [one.score for one in found.runs]
    assert scores == sorted(scores, reverse=True)
    assert [one.run.params["learning_rate"] for one in found.runs] == [RATES[i] for i in order(found)]


def test_runs_that_go_on_are_ranked_by_what_was_read(logs: Path) -> None:
    for version in range(4):
        changed(logs, version, status="running")
    found = rank_runs([logs])
    assert set(order(found)[:2]) == {1, 3} and all(one.run.value is None for one in found.runs)


def test_a_metric_that_falls(logs: Path) -> None:
    falling = rank_runs([logs], "val_loss")
    assert falling.metric is not None and falling.metric.mode == "min"
    assert set(order(falling)[:2]) == {1, 3}
    losses = [one.best for one in falling.runs]
    assert None not in losses and losses == sorted(losses)  # type: ignore[type-var]
    assert order(rank_runs([logs], "val_loss", "max")) == order(falling)[::-1]
    for version in range(4):  # what the record says counts, whatever the name is
        changed(logs, version, mode="min")
    assert set(order(rank_runs([logs]))[:2]) == {0, 2}


def test_a_run_that_was_resumed_counts_once(logs: Path) -> None:
    shutil.copytree(logs / "version_0", logs / "version_7")
    assert len(rank_runs([logs, logs / "version_7"]).runs) == 4


def test_what_cannot_be_compared_is_left_out_and_named(logs: Path) -> None:
    (logs / "nndyn-broken.json").write_text("{")
    changed(logs, 0, monitor="val_iou", metrics={})
    found = rank_runs([logs])
    assert len(found.runs) == 3 and len(found.left_out) == 2
    assert any("val_iou was monitored, and val_acc was not logged" in why for why in found.left_out.values())
    changed(logs, 1, monitor="val_iou", metrics={})
    with pytest.raises(SweepError, match=r"2 runs can be compared \(3 are left out, the first as .*\): that"):
        rank_runs([logs])


def test_without_any_metric_weights_rank(logs: Path) -> None:
    for version in range(4):
        changed(logs, version, monitor=None, accuracies=[])
    found = rank_runs([logs])
    assert found.metric is None and all(one.best is None for one in found.runs)
    assert len({one.score for one in found.runs}) == 4


def test_a_metric_of_which_nobody_knows_what_is_better(logs: Path) -> None:
    for version in range(4):
        changed(logs, version, monitor="val_thing", mode=None)
    with pytest.raises(SweepError, match="whether val_thing is to grow or to fall: give --mode"):
        rank_runs([logs])
    assert set(order(rank_runs([logs], mode="max"))[:2]) == {1, 3}


# -- from the command line -----------------------------------------------------------------------------------


def test_the_command_prints_a_plain_table(logs: Path) -> None:
    changed(logs, 1, hparams={"width": 8, "schedule": "[cosine]"})
    (logs / "nndyn-broken.json").write_text("{")
    done = command(logs)
    assert done.exit_code == 0 and "left out: " in done.stderr
    title, header, *rows = done.stdout.splitlines()
    assert title.startswith("4 runs by val_acc") and header.split()[:3] == ["rank", "run", "hyperparameters"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4"] and done.stdout.isascii()
    row = next(row for row in rows if "version_1" in row)
    assert "learning_rate 0.05, width 8, schedule [cosine]" in row and row.rstrip().endswith("finished")


def test_too_few_runs_are_one_sentence_and_a_failure(logs: Path) -> None:
    for path, message in (
        (logs.parent / "nowhere", "does not exist"),
        (logs / "version_0", "1 runs can be compared: that takes 3 at least"),
    ):
        done = command(path)
        assert (
            done.exit_code == 1 and isinstance(done.exception, SweepError) and message in str(done.exception)
        )
    (logs.parent / "empty").mkdir()
    done = command(logs.parent / "empty")
    assert done.exit_code == 1 and "there are no records of runs" in str(done.exception)
