"""Every example runs as its first lines say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_digits(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "digits.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "learning rate 0.03: finished" in done.stdout
    assert "learning rate 3e-05: stopped" in done.stdout


def test_shadow_mode_and_its_report(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "shadow.py"), "2", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    command = [
        sys.executable,
        "-m",
        "lightning_nndyn.cli",
        "report",
        "shadow-runs",
        "--output",
        "shadow.html",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "shadow.html: 2 runs" in done.stdout and (tmp_path / "shadow.html").stat().st_size < 1e6


@pytest.mark.needs("jsonargparse")
def test_trainer_yaml_with_an_override() -> None:
    import lightning.pytorch as L
    from lightning.pytorch.cli import LightningCLI

    import lightning_nndyn as nd

    arguments = ["--config", str(EXAMPLES / "trainer.yaml"), "--trainer.callbacks.init_args.action=observe"]
    cli = LightningCLI(L.LightningModule, run=False, args=arguments, save_config_callback=None)
    (callback,) = (c for c in cli.trainer.callbacks if isinstance(c, nd.GraphDynamicsCallback))
    assert (callback.predictor, callback.action) == ("lenet5-digits", "observe")
    assert list(callback.snapshots or ()) == [0.0625, 0.125, 0.25, 0.5, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_examples_are_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) < 60
