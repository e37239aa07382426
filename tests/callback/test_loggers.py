"""What each logger's dashboard shows of a run: the logged keys, the decision with its reason, the picture."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from callback_runs import Digits, Scripted, rows, trainer, watcher
from digits_runs import DOOMED, module_class
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from mlflow_server import QUIET, serving
from wandb_file import WandbRun, read

from lightning_nndyn import Verdict
from lightning_nndyn.callback.loggers import RunSummary, log_summary
from lightning_nndyn.callback.loggers.figure import draw
from lightning_nndyn.callback.record import Record
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.predictor.policy import Decision

KEYS = [f"nndyn/{name}" for name in ("predicted_accuracy", "p_low", "stop", "in_domain", "risk")]
PNG = b"\x89PNG"


def stopped_run(logger: Any, **settings: Any) -> Any:
    """A run at a hopeless learning rate, which the callback stops after 1/16 epoch."""
    callback = watcher(monitor="val_accuracy", verbose=False)
    trainer(callback, logger=logger, **settings).fit(Digits(DOOMED, validate=True))
    assert callback.decision.stop and callback.decision.epoch == 0.0625
    return callback


def good_run(logger: Any) -> Any:
    callback = watcher(monitor="val_accuracy", verbose=False)
    trainer(callback, logger=logger).fit(Digits(validate=True))
    assert not callback.decision.stop and callback.decision.epoch == 3
    return callback


def one(folder: Path, pattern: str) -> Path:
    (file,) = folder.rglob(pattern)
    return file


def summary(**settings: Any) -> RunSummary:
    found = {"run": "a", "decision": "go on", "reason": "goes on after 1 epoch: well", "epoch": 1.0}
    return RunSummary(**{**found, "verdicts": [Verdict(0.8, 0.1, 1.0, True)], **settings})


def text_of(folder: Path) -> str:
    return one(folder, "nndyn-*.txt").read_text()


# -- CSV -----------------------------------------------------------------------------------------------------


@pytest.mark.needs("matplotlib")
def test_csv_has_words_and_a_picture_beside_its_metrics(tmp_path: Path) -> None:
    callback = stopped_run(CSVLogger(tmp_path))
    assert set(KEYS) <= rows(tmp_path)[0].keys()
    metrics = one(tmp_path, "metrics.csv")
    assert text_of(metrics.parent) == f"stops this run: {callback.decision.reason}\n"
    picture = one(metrics.parent, "nndyn-*.png")
    assert picture.stem == one(metrics.parent, "nndyn-*.json").stem and picture.read_bytes()[:4] == PNG


def test_a_run_that_goes_on_says_why_and_one_that_is_only_watched_too(tmp_path: Path) -> None:
    good_run(CSVLogger(tmp_path / "good"))
    assert text_of(tmp_path).startswith("lets this run go on: after 3 epochs: predicted final accuracy ")
    callback = watcher(action="observe")
    trainer(callback, logger=CSVLogger(tmp_path / "shadow"), max_epochs=1).fit(Digits(DOOMED))
    assert text_of(tmp_path / "shadow") == f"would stop this run: {callback.decision.reason}\n"


def test_a_subclass_in_either_namespace_is_known(tmp_path: Path) -> None:
    for package in ("lightning.pytorch", "pytorch_lightning"):
        pl, loggers = import_module(package), import_module(f"{package}.loggers")
        own = type("Own", (loggers.CSVLogger,), {})
        run = trainer(watcher(), pl=pl, logger=own(tmp_path / package), max_epochs=1)
        run.fit(module_class(pl)(DOOMED))
        assert text_of(tmp_path / package).startswith("stops this run: ")


# -- TensorBoard ---------------------------------------------------------------------------------------------


@pytest.mark.needs("tensorboard", "matplotlib")
@pytest.mark.parametrize("run", [stopped_run, good_run])
def test_tensorboard_reads_keys_words_and_a_picture(run: Any, tmp_path: Path) -> None:
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback = run(TensorBoardLogger(tmp_path))
    events = EventAccumulator(str(one(tmp_path, "events.out*"))).Reload()
    scalars = {key: events.Scalars(key) for key in KEYS}
    assert [event.value for event in scalars["nndyn/predicted_accuracy"]] == [
        pytest.approx(verdict.predicted_accuracy) for verdict in callback.verdicts
    ]
    (words,) = events.Tensors("nndyn/decision/text_summary")
    assert callback.decision.reason.removeprefix("goes on ") in words.tensor_proto.string_val[0].decode()
    (picture,) = events.Images("nndyn/predictions")
    assert (picture.width, picture.height) == (768, 480)
    assert picture.step == words.step >= scalars["nndyn/stop"][-1].step


# -- Weights & Biases ----------------------------------------------------------------------------------------


@pytest.fixture
def wandb_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {"MODE": "offline", "SILENT": "true", "ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    return tmp_path


def wandb_run(folder: Path, run: Any) -> tuple[Any, WandbRun]:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    callback = run(WandbLogger(save_dir=folder, project="digits"))
    wandb.finish()
    wandb.teardown()  # its service writes to the last
    return callback, read(folder)


@pytest.mark.needs("wandb", "matplotlib")
@pytest.mark.parametrize("run", [stopped_run, good_run])
def test_wandb_gets_keys_summary_and_a_picture_and_sees_the_run_finished(
    run: Any, wandb_folder: Path
) -> None:
    callback, found = wandb_run(wandb_folder, run)
    assert found.exit_code == 0
    predicted = [row["nndyn/predicted_accuracy"] for row in found.rows if "nndyn/predicted_accuracy" in row]
    assert predicted == [pytest.approx(verdict.predicted_accuracy) for verdict in callback.verdicts]
    assert {key: found.summary[key] for key in KEYS}.keys() == set(KEYS)
    stop = callback.decision.stop
    assert found.summary["nndyn/decision"] == ("stop" if stop else "go on")
    assert found.summary["nndyn/reason"] == callback.decision.reason
    assert found.summary["nndyn/decision_epoch"] == callback.decision.epoch
    (picture,) = [row for row in found.rows if "nndyn/predictions/filenames" in row]
    (file,) = picture["nndyn/predictions/filenames"]
    assert next(wandb_folder.rglob(Path(file).name)).read_bytes()[:4] == PNG
    assert callback.decision.reason.removeprefix("goes on ") in picture["nndyn/predictions/captions"][0]


@pytest.mark.needs("wandb", "matplotlib")
def test_wandb_axes_never_go_back(wandb_folder: Path) -> None:
    _, found = wandb_run(wandb_folder, good_run)
    steps = [row["trainer/global_step"] for row in found.rows]
    assert steps == sorted(steps) and steps[-1] == 3 * 30 - 1
    assert [row["_step"] for row in found.rows] == list(range(len(found.rows)))


# -- MLflow --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mlflow_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, serving(tmp_path_factory.mktemp("mlflow")) as address:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        yield address


def mlflow_logger(address: str, name: str) -> Any:
    from lightning.pytorch.loggers import MLFlowLogger

    return MLFlowLogger(name, tracking_uri=address)


@pytest.mark.needs("mlflow", "matplotlib")
@pytest.mark.parametrize("run", [stopped_run, good_run])
def test_an_mlflow_server_has_metrics_tags_and_a_picture_of_a_finished_run(
    run: Any, mlflow_address: str, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    logger = mlflow_logger(mlflow_address, run.__name__)
    callback = run(logger)
    client = MlflowClient(mlflow_address)
    found = client.get_run(logger.run_id)
    assert found.info.status == "FINISHED"
    history = client.get_metric_history(logger.run_id, "nndyn/predicted_accuracy")
    assert [metric.value for metric in history] == [
        pytest.approx(verdict.predicted_accuracy) for verdict in callback.verdicts
    ]
    assert set(KEYS) <= found.data.metrics.keys()
    assert found.data.tags["nndyn/decision"] == ("stop" if callback.decision.stop else "go on")
    assert found.data.tags["nndyn/reason"] == callback.decision.reason
    assert float(found.data.tags["nndyn/decision_epoch"]) == callback.decision.epoch
    (picture,) = client.list_artifacts(logger.run_id)
    local = client.download_artifacts(logger.run_id, picture.path, str(tmp_path))
    assert picture.path.endswith(".png") and Path(local).read_bytes()[:4] == PNG


@pytest.mark.needs("mlflow")
def test_a_reason_longer_than_mlflow_takes_is_cut(mlflow_address: str) -> None:
    from mlflow.tracking import MlflowClient

    logger = mlflow_logger(mlflow_address, "long")
    with warnings.catch_warnings():
        warnings.simplefilter("error", NNDynWarning)
        log_summary([logger], summary(reason="long " * 2000), 0)
    reason = MlflowClient(mlflow_address).get_run(logger.run_id).data.tags["nndyn/reason"]
    assert len(reason) == 5000 and reason.endswith("…")


# -- all of them ---------------------------------------------------------------------------------------------


@pytest.mark.needs("tensorboard", "matplotlib")
def test_a_logger_that_fails_warns_once_and_the_others_get_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning.pytorch.loggers import TensorBoardLogger
    from torch.utils.tensorboard import SummaryWriter

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_text", full)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        callback = stopped_run([TensorBoardLogger(tmp_path), CSVLogger(tmp_path)])
    (ours,) = [warning for warning in caught if issubclass(warning.category, NNDynWarning)]
    assert "cannot tell TensorBoardLogger" in str(ours.message) and "No space left" in str(ours.message)
    assert callback.decision.reason in text_of(tmp_path) and one(tmp_path, "nndyn-*.png")


def test_without_matplotlib_there_are_words_alone_and_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NNDynWarning)
        stopped_run(CSVLogger(tmp_path))
    assert "stops this run" in text_of(tmp_path) and not list(tmp_path.rglob("*.png"))


def test_a_logger_of_another_kind_gets_its_numbers_and_no_warning(tmp_path: Path) -> None:
    from lightning.pytorch.loggers.logger import Logger

    class CSVLogger(Logger):  # of that name, but none of Lightning's
        name = version = "own"
        seen: list[set[str]]

        def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            self.seen.append(set(metrics))

    logger = CSVLogger()
    logger.seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", NNDynWarning)
        stopped_run(logger, default_root_dir=tmp_path)
    assert any(set(KEYS) <= keys for keys in logger.seen)


def test_where_nothing_is_predicted_nothing_is_told(tmp_path: Path) -> None:
    trainer(watcher(None), logger=CSVLogger(tmp_path), max_epochs=1).fit(Digits())
    assert [file.suffix for file in tmp_path.rglob("nndyn-*")] == [".json"]


class Fails(Callback):
    """Fails at the end of an epoch."""

    def on_train_epoch_end(self, *_: Any) -> None:
        raise RuntimeError("out of luck")


def test_a_run_that_breaks_off_because_it_is_stopped_is_told_and_a_broken_one_not(tmp_path: Path) -> None:
    for name, p_low in (("stopped", 1.0), ("broken", 0.0)):
        callback = watcher(Scripted({1.0: p_low}), verbose=False)
        with pytest.raises(RuntimeError, match="out of luck"):
            trainer(callback, Fails(), logger=CSVLogger(tmp_path / name)).fit(Digits())
    assert text_of(tmp_path).startswith("stops this run: ") and one(tmp_path / "stopped", "nndyn-*.txt")


def test_an_exempt_run_says_that_it_is_exempt() -> None:
    record = Record(decision=Decision(True, "too low", 2.0), exempt="lets this run finish, as an audit")
    shown = RunSummary.from_record(record, False, None, None)
    assert shown.text == "would stop this run: too low; lets this run finish, as an audit"


@pytest.mark.needs("matplotlib")
@pytest.mark.parametrize(
    "odd",
    [
        {"monitor": "a $b^ metric", "accuracies": [0.1, float("nan"), 0.3]},
        {"verdicts": [], "decision": "stop", "epoch": -1.0, "reason": "another process decided to stop"},
        {"verdicts": [Verdict(0.8, 0.1, 0.0, False)], "epoch": 0.0, "steps": 7},
        {"verdicts": [], "decision": "stop", "monitor": "a $b^ loss", "accuracies": [231.0, 230.0]},
        {
            "verdicts": [Verdict(float("nan"), 1.0, 1.0, True)],
            "decision": "stop",
            "reason": "diverged " * 200,
        },
    ],
)
def test_odd_runs_are_drawn_without_a_warning(odd: dict[str, Any], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_summary([CSVLogger(tmp_path)], summary(**odd), 0)
    assert one(tmp_path, "*.png").read_bytes()[:4] == PNG


@pytest.mark.needs("matplotlib")
@pytest.mark.parametrize(
    ("verdicts", "values", "label"),
    [([], [2.5, 2.0], "val_loss"), ([Verdict(0.8, 0.1, 1.0, True)], [25.0, 20.0], "accuracy, %")],
)
def test_what_only_a_sweep_has_judged_is_drawn_in_its_own_unit(
    verdicts: list[Verdict], values: list[float], label: str
) -> None:
    shown = summary(
        verdicts=verdicts, monitor="val_loss", accuracies=[v / (100 if verdicts else 1) for v in values]
    )
    (axes,) = draw(shown).figure.axes
    (curve,) = [line for line in axes.lines if line.get_label() == "val_loss"]
    assert list(curve.get_ydata()) == pytest.approx(values) and axes.get_ylabel() == label
    assert axes.get_ylim()[1] > max(values)


@pytest.mark.needs("tensorboard", "matplotlib")
def test_pyplot_is_left_alone_and_packages_of_other_loggers_are_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib
    from lightning.pytorch.loggers import TensorBoardLogger
    from matplotlib import pyplot

    backend = matplotlib.get_backend()  # settles it: it is chosen where it is asked for
    before = matplotlib.rcParams.copy()
    for package in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, package, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NNDynWarning)
        stopped_run([CSVLogger(tmp_path), TensorBoardLogger(tmp_path)])
    assert one(tmp_path, "nndyn-*.png")
    assert matplotlib.get_backend() == backend and matplotlib.rcParams == before
    assert not pyplot.get_fignums()


def test_losses_and_weights_are_those_of_a_run_that_is_not_watched(tmp_path: Path) -> None:
    models = [Digits(validate=True), Digits(validate=True)]
    trainer(logger=CSVLogger(tmp_path / "plain")).fit(models[0])
    before = torch.random.get_rng_state()
    log_summary([CSVLogger(tmp_path / "random")], summary(), 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    trainer(watcher(action="observe"), logger=CSVLogger(tmp_path / "watched")).fit(models[1])
    assert models[0].losses == models[1].losses
    pairs = zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
