"""Every example runs as its first lines say."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow_server import QUIET
from paths import EXAMPLES
from typer.testing import CliRunner
from wandb_file import read
from warm_processes import run_warm

from lightning_nndyn.callback.record_file import read_record
from lightning_nndyn.cli import app

RunExample = Callable[..., str]


@pytest.fixture
def example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> RunExample:
    """Runs an example as `python` would, but in this process, which has imported Lightning already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # which examples set, and which is taken back afterwards

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def in_a_process(folder: Path, name: str, *arguments: str, **environment: str) -> str:
    """The same for those that start servers, or leave their libraries changed."""
    code, said = run_warm(EXAMPLES / name, *arguments, folder=folder, **environment)
    assert code == 0, said
    return said


def test_digits(example: RunExample) -> None:
    printed = example("digits.py")
    assert "learning rate 0.03: finished" in printed
    assert "learning rate 3e-05: stopped" in printed


def test_shadow_mode_and_its_report(example: RunExample, tmp_path: Path) -> None:
    example("shadow.py", "2", "2")
    shown = CliRunner().invoke(app, ["report", "shadow-runs", "--output", "shadow.html"])
    assert shown.exit_code == 0, shown.output
    assert "shadow.html: 2 runs" in shown.output and (tmp_path / "shadow.html").stat().st_size < 1e6


@pytest.mark.needs("optuna")
def test_optuna_sweep(example: RunExample) -> None:
    printed = example("optuna_sweep.py")
    assert "best: 0." in printed and "24 trials" in printed
    assert "pruned: rank " in printed


def test_race(example: RunExample, tmp_path: Path) -> None:
    printed = example("race.py")
    assert printed.count("trained to its end") == 2 and "of 40 after 0.0625 epochs" in printed
    assert "epochs: 35.8 of 480" in printed and "best: 0." in printed
    assert len((tmp_path / "race.jsonl").read_text().splitlines()) == 1 + 40 + 20 + 10 + 2


RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": "local"}


@pytest.mark.needs("ray")
def test_ray_sweep(tmp_path: Path) -> None:
    printed = in_a_process(tmp_path, "ray_sweep.py", HOME=str(tmp_path), **RAY)
    assert printed.count("  finished") >= 2 and "  stopped" in printed
    assert "runs that were read after" in printed


@pytest.mark.needs("ray")
def test_ray_scheduler(tmp_path: Path) -> None:
    printed = in_a_process(tmp_path, "ray_scheduler.py", HOME=str(tmp_path), **RAY)
    rows = [line.split() for line in printed[printed.index("config/lr") :].splitlines()[1:13]]
    epochs, values = [float(row[2]) for row in rows], [float(row[3]) for row in rows]
    assert len(rows) == 12 and epochs == sorted(epochs) and epochs[0] < 1
    ended = [value for epoch, value in zip(epochs, values, strict=True) if epoch == 4]
    assert 1 <= len(ended) <= 4 and max(ended) > 0.8
    assert sum(epochs) < 0.5 * 12 * 4  # paused trials have not been trained anew


@pytest.mark.needs("tensorboard", "matplotlib")
def test_tensorboard(example: RunExample, tmp_path: Path) -> None:
    assert "version_1: predicted final accuracy" in example("with_tensorboard.py")
    events = b"".join(file.read_bytes() for file in sorted(tmp_path.rglob("events.out*")))
    assert b"stops this run: " in events and b"nndyn/predictions" in events


@pytest.mark.needs("mlflow", "matplotlib")
def test_mlflow(tmp_path: Path) -> None:
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'runs.db'}"}
    printed = in_a_process(tmp_path, "with_mlflow.py", **store, **QUIET)
    assert "learning rate 0.03: FINISHED, goes on" in printed
    assert "learning rate 3e-05: FINISHED, predicted final accuracy" in printed
    assert len(list(tmp_path.rglob("nndyn-*.png"))) == 2


@pytest.mark.needs("wandb", "matplotlib")
def test_a_run_of_a_wandb_sweep_that_is_stopped_has_finished(tmp_path: Path) -> None:
    # What an agent sets, and how it calls the program; it counts a run as failed whose exit code is not 0.
    sweep = {
        "WANDB_MODE": "offline",
        "WANDB_SWEEP_ID": "grid",
        "WANDB_RUN_ID": "first",
        "WANDB_SILENT": "true",
    }
    # In a process that ends as Python does: by what runs at its exit, wandb learns of it.
    command = [sys.executable, str(EXAMPLES / "with_wandb.py"), "--learning_rate=3e-05"]
    variables = {**os.environ, **sweep}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables)
    assert done.returncode == 0, done.stderr
    run = read(tmp_path)
    assert (run.exit_code, run.sweep) == (0, "grid") and run.config["learning_rate"] == 3e-5
    assert run.summary["nndyn/decision"] == "stop" and run.summary["nndyn/reason"] in done.stdout


@pytest.mark.needs("jsonargparse")
@pytest.mark.parametrize(
    ("overrides", "epochs"),
    [
        (["--trainer.callbacks.init_args.max_false_stop_rate=0.1", "--trainer.max_epochs=2"], 2),
        (["--model.learning_rate=0.00003"], 0),
        (
            [
                "--model.learning_rate=0.00003",
                "--trainer.callbacks.init_args.action=observe",
                "--trainer.max_epochs=1",
                "--trainer.callbacks+=lightning.pytorch.callbacks.LearningRateMonitor",
                "--trainer.callbacks.init_args.logging_interval=epoch",
            ],
            1,
        ),
    ],
    ids=["rate", "stopped", "observed, and another callback"],
)
def test_cli_with_overrides(overrides: list[str], epochs: int, example: RunExample, tmp_path: Path) -> None:
    arguments = ["fit", "--config", str(EXAMPLES / "cli.yaml"), "--data.batch_size=96", *overrides]
    example("cli.py", *arguments)
    (file,) = tmp_path.rglob("nndyn-*.json")
    run = read_record(file)
    assert run["steps_per_epoch"] == 15 and len(run["metrics"]["val_accuracy"]) == max(epochs, 1)
    assert run["status"] == ("finished" if epochs else "stopped") and run["decision"]["stop"] == (epochs != 2)
    assert run["action"] == ("observe" if epochs == 1 else "stop")
    assert run["policy"]["max_false_stop_rate"] == (0.1 if epochs == 2 else 0.05)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_examples_are_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) < 60
