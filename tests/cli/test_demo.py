"""The demo: real Trainer, shipped predictor, honest count."""

import csv
import io
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import lightning_nndyn as nd
from lightning_nndyn.cli.demo import run_demo
from lightning_nndyn.cli.demo.configurations import demo_configurations
from lightning_nndyn.cli.demo.summary import DemoRun, DemoSummary, summary_table
from lightning_nndyn.cli.demo.training import TrainingResult
from lightning_nndyn.corpus.presets import get_preset
from lightning_nndyn.corpus.presets.paper import DROPOUTS, LEARNING_RATES
from lightning_nndyn.predictor.policy import Decision

EPOCHS = 6


@pytest.mark.parametrize("seed", range(5))
def test_no_configuration_is_in_the_corpus(seed: int) -> None:
    configs = demo_configurations(64, seed)
    preset = get_preset("lenet5-digits")
    corpus_seeds = {preset.config(index).seed for index in range(len(preset))}
    for config in configs:
        assert config.learning_rate not in LEARNING_RATES
        assert config.dropout not in DROPOUTS
        assert config.seed not in corpus_seeds
        assert (config.epochs, config.batch_size, config.crop_padding) == (50, 128, 1)
    assert len({config.learning_rate for config in configs}) > 60
    assert len({config.seed for config in configs}) == 64


def test_demo_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    short = [replace(config, epochs=EPOCHS) for config in demo_configurations(3, 2)]  # 50 take a minute
    monkeypatch.setitem(run_demo.__globals__, "demo_configurations", lambda *_: short)
    summary = run_demo(3, output=tmp_path / "demo", seed=2)
    printed = capsys.readouterr().out
    for line in summary.lines():
        assert line in printed
    assert (tmp_path / "demo" / "predictions.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "demo" / "sweep.csv").open()))
    assert [float(row["accuracy"]) for row in rows] == [run.accuracy for run in summary.runs]
    for run in summary.runs:
        assert len(run.truth.accuracies) == EPOCHS
        assert run.repeated
        assert run.first.callback is not None
        assert run.first.callback.verdicts
    metrics = list(csv.DictReader((tmp_path / "demo" / "csv" / "run-00" / "metrics.csv").open()))
    assert any(row["nndyn/predicted_accuracy"] for row in metrics)
    assert list((tmp_path / "demo" / "tensorboard" / "run-00").glob("events.*"))


def demo_run(accuracy: float, stopped_at: float | None) -> DemoRun:
    config = demo_configurations(1, 0)[0]
    truth = TrainingResult([0.1, accuracy, 0.05], 50.0, None)
    if stopped_at is None:
        return DemoRun(config, truth, truth)
    callback = nd.GraphDynamicsCallback(predictor=None)
    callback.session.record.decision = Decision(True, "a test", stopped_at)
    return DemoRun(config, TrainingResult([0.1], stopped_at, callback), truth)


def test_summary_counts_what_was_saved_and_lost() -> None:
    runs = [demo_run(0.9, None), demo_run(0.95, 2.0), demo_run(0.2, 0.25), demo_run(0.3, None)]
    summary = DemoSummary(runs, 0.5)
    assert summary.epochs == 50 + 2 + 0.25 + 50
    assert summary.all_epochs == 200
    assert [len(part) for part in (summary.good, summary.stopped, summary.lost)] == [2, 2, 1]
    text = "\n".join(summary.lines())
    assert "1 of 2 (final accuracy below 50%)" in text
    assert "stopped by mistake: 1 of 2" in text
    assert "best run: lost (95.0%" in text


def test_table_marks_mistakes_and_fits_a_terminal() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    runs = [demo_run(0.9, None), demo_run(0.95, 2.0), demo_run(0.2, 0.25)]
    console.print(summary_table(DemoSummary(runs, 0.5)))
    lines = [line for line in console.export_text().splitlines() if "%" in line]
    assert len(lines) == 3  # nothing is wrapped
    assert ["*" in line for line in lines].count(True) == 1
    assert next(line for line in lines if "*" in line).count("stopped 2.00") == 1


def test_an_earlier_demo_is_not_overwritten(tmp_path: Path) -> None:
    from lightning_nndyn.cli.demo import _new_folder

    made = [_new_folder(tmp_path / "demo") for _ in range(3)]
    assert [folder.name for folder in made] == ["demo", "demo-2", "demo-3"]
    assert all(a != b for a, b in itertools.pairwise(made))
