"""The callback from a LightningCLI's YAML file and command line, in both of Lightning's namespaces."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from digits_runs import DOOMED, module_class, predictor

from lightning_nndyn import GraphDynamicsCallback

pytestmark = [
    pytest.mark.needs("jsonargparse"),
    pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"]),
    pytest.mark.filterwarnings("ignore"),
]

QUIET = """
  accelerator: cpu
  max_epochs: 2
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
"""


def run(package: str, *arguments: str) -> Any:
    cli = import_module(f"{package}.cli")
    model = module_class(import_module(package))
    return cli.LightningCLI(model, args=list(arguments), save_config_callback=None)


def written(folder: Path, callback: str) -> str:
    file = folder / "config.yaml"
    file.write_text(f"trainer:{QUIET}  callbacks:\n{callback}")
    return str(file)


def ours(cli: Any) -> GraphDynamicsCallback:
    (callback,) = (c for c in cli.trainer.callbacks if isinstance(c, GraphDynamicsCallback))
    return callback


def test_every_argument_from_yaml_and_a_doomed_run_is_stopped(package: str, tmp_path: Path) -> None:
    predictor().save(tmp_path / "digits")
    config = written(
        tmp_path,
        f"""
    - class_path: lightning_nndyn.GraphDynamicsCallback
      init_args:
        predictor: {tmp_path / "digits.skops"}
        action: stop
        snapshots: [0.0625, 0.25, 1, 2]
        snapshot_every_n_steps: 30
        max_false_stop_rate: 0.1
        threshold: 0.6
        log_signature: true
        layers: [net.0, net.3, net.8, net.11, net.13]
        strict: true
        verbose: false
""",
    )
    cli = run(package, "fit", "--config", config, "--model.lr", str(DOOMED))
    callback = ours(cli)
    assert callback.decision.stop and callback.decision.epoch == 0.0625
    assert cli.trainer.global_step == 2
    assert callback.snapshots == (0.0625, 0.25, 1.0, 2.0) and callback.snapshot_every_n_steps == 30
    assert (callback.max_false_stop_rate, callback.threshold) == (0.1, 0.6)
    assert callback.layers == ["net.0", "net.3", "net.8", "net.11", "net.13"]
    assert "nndyn/degree_mean" in cli.trainer.callback_metrics


def test_defaults_and_null(package: str, tmp_path: Path) -> None:
    config = written(tmp_path, "    - class_path: lightning_nndyn.GraphDynamicsCallback\n")
    callback = ours(run_nothing(package, config))
    assert callback.predictor == "universal" and callback.snapshots is None
    assert callback.action == "stop" and callback.layers is None and not callback.strict

    config = written(
        tmp_path, "    - {class_path: lightning_nndyn.GraphDynamicsCallback, init_args: {predictor: null}}\n"
    )
    callback = ours(run(package, "fit", "--config", config))
    assert [snapshot.epoch for snapshot in callback.history] == [0.0, 0.0625, 0.125, 0.25, 0.5, 1.0, 2.0]


def run_nothing(package: str, config: str) -> Any:
    cli = import_module(f"{package}.cli")
    model = module_class(import_module(package))
    return cli.LightningCLI(model, args=["--config", config], run=False, save_config_callback=None)


def test_command_line_and_the_printed_configuration_read_back(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--trainer.callbacks+=lightning_nndyn.GraphDynamicsCallback",
        "--trainer.callbacks.predictor=null",
        "--trainer.callbacks.action=observe",
        "--trainer.callbacks.snapshots=[0.5,1]",
    ]
    with pytest.raises(SystemExit):
        run(package, "fit", *arguments, "--print_config")
    file = tmp_path / "printed.yaml"
    file.write_text(capsys.readouterr().out)
    callback = ours(run_nothing_from_fit(package, str(file)))
    assert (callback.predictor, callback.action, callback.snapshots) == (None, "observe", (0.5, 1.0))


def run_nothing_from_fit(package: str, config: str) -> Any:
    return run(package, "fit", "--config", config, "--trainer.max_epochs=0")


def test_a_wrong_argument_is_named(package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = written(
        tmp_path, "    - {class_path: lightning_nndyn.GraphDynamicsCallback, init_args: {action: pause}}\n"
    )
    with pytest.raises(SystemExit):
        run(package, "fit", "--config", config)
    assert "pause" in capsys.readouterr().err
