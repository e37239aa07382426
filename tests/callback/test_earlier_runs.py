"""A shell loop over learning rates is a sweep: a run is compared with those that its log folder knows."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
from callback_runs import trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from paths import SUPPORT
from sweep_runs import Perceptron
from warm_processes import run_warm

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.callback.earlier_runs import EarlierRuns
from lightning_nndyn.callback.record_file import find_records, load_record

RATES = (0.03, 0.05, 0.08, 0.12, 0.2, 0.1, 0.06)
EPOCHS = 4


def run(folder: Path, lr: float, logger: Any = CSVLogger, **settings: Any) -> GraphDynamicsCallback:
    """One turn of the loop, as a user writes it."""
    given = {"monitor": "val_acc", "verbose": False, "strict": True, **settings}
    epochs = given.pop("max_epochs", EPOCHS)
    callback = GraphDynamicsCallback(**given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(callback, logger=logger(folder), max_epochs=epochs).fit(Perceptron(lr))
    return callback


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven good runs."""
    found = tmp_path_factory.mktemp("loop")
    for lr in RATES:
        assert not run(found, lr).decision.stop
    return found


@pytest.fixture
def folder(recorded: Path, tmp_path: Path) -> Path:
    """Their log folder, for one test alone."""
    return Path(shutil.copytree(recorded, tmp_path / "loop"))


def test_a_hopeless_run_is_stopped_and_a_good_one_is_not(folder: Path) -> None:
    low = run(folder, 1e-6)
    assert low.decision.stop and low.decision.epoch < EPOCHS
    assert "to end among the best 25%" in low.decision.reason
    good = run(folder, 0.15)
    assert not good.decision.stop and good.history[-1].epoch == EPOCHS


def test_it_is_said_once_with_how_many(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        run(folder, 0.1, verbose=True)
    said = [
        record.getMessage() for record in caplog.records if "earlier ones of its kind" in record.getMessage()
    ]
    assert len(said) == 1 and "earlier_runs=False" in said[0]


def test_a_comparison_is_announced_only_where_there_is_a_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No predictor knows a loss: this is all that the line at the start can say of such a run."""
    without: list[dict[str, Any]] = [{"logger": lambda _: False}, {"record": False}, {"earlier_runs": False}]
    for settings in ({}, *without):
        caplog.clear()
        with caplog.at_level("INFO"):
            run(tmp_path, 0.1, monitor="val_loss", verbose=True, max_epochs=1, **settings)
        (line,) = [text for text in caplog.messages if "is stopped only if it diverges" in text]
        assert ("earlier runs of its log folder" in line) is (not settings), line


@pytest.mark.parametrize(
    "settings", [{"earlier_runs": False}, {"predictor": None}, {"record": False}, {"action": "observe"}]
)
def test_what_turns_it_off(folder: Path, settings: dict[str, Any]) -> None:
    callback = run(folder, 1e-6, **settings)
    assert callback.history[-1].epoch == EPOCHS
    assert callback.decision.stop == (settings.get("action") == "observe")


@pytest.mark.parametrize("settings", [{"monitor": None}, {"monitor": "val_loss"}, {"max_epochs": 5}])
def test_runs_of_another_kind_are_not_compared(folder: Path, settings: dict[str, Any]) -> None:
    callback = run(folder, 1e-6, **settings)
    assert callback.history[-1].epoch == settings.get("max_epochs", EPOCHS)


def test_other_data_is_known_by_the_length_of_its_epochs(folder: Path) -> None:
    file = next(find_records(folder))
    record, _ = load_record(file)
    earlier = EarlierRuns(file.parent, "val_acc", 1.0)
    count = len(earlier.runs(replace(record, run="0" * 12)))
    assert count >= len(RATES)
    for factor, alike in ((2, True), (4, True), (0.5, True), (12 / 23, True), (1.2, False), (3, False)):
        steps = factor * (record.training.steps_per_epoch or 0)
        other = replace(record, run="0" * 12, training=replace(record.training, steps_per_epoch=steps))
        assert len(EarlierRuns(file.parent, "val_acc", 1.0).runs(other)) == (count if alike else 0)


def test_damaged_records_and_the_runs_own_are_passed_over(folder: Path) -> None:
    one, other, *_ = find_records(folder)
    record, _ = load_record(one)
    before = EarlierRuns(one.parent, "val_acc", 1.0).runs(record)
    other.write_text("{")
    found = EarlierRuns(one.parent, "val_acc", 1.0).runs(record)
    assert len(found) == len(before) - 1 == len(RATES) - 2
    assert len(EarlierRuns(one.parent, "val_acc", 1.0).runs(replace(record, run="0" * 12))) == len(before)
    assert all(one.params["learning_rate"] > 0 and one.params["optimizer"] == "sgd" for one in found)
    assert all(one.finished and not one.stopped and (one.value or 0) > 0.5 for one in found)
    rungs = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0]  # each twice as late as the one before
    assert all([reading.time for reading in one.readings] == rungs for one in found)


def test_records_are_read_again_only_where_they_have_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lightning_nndyn.callback.earlier_runs as module

    file = next(find_records(folder))
    record, _ = load_record(file)
    earlier, read = EarlierRuns(file.parent, "val_acc", 1.0), []
    monkeypatch.setattr(module, "load_record", lambda path: read.append(path) or load_record(path))
    first, second = earlier.runs(record), earlier.runs(record)
    assert first == second and len(read) == len(set(read)) == len(list(find_records(folder)))


@pytest.mark.parametrize("kind", ["one folder", "tensorboard"])
def test_other_places_of_records(tmp_path: Path, kind: str) -> None:
    settings: dict[str, Any] = (
        {"logger": TensorBoardLogger} if kind == "tensorboard" else {"record": tmp_path / "all"}
    )
    for lr in RATES[:5]:
        run(tmp_path / "logs", lr, **settings)
    assert run(tmp_path / "logs", 1e-6, **settings).decision.stop


def test_a_metric_that_is_to_fall(tmp_path: Path) -> None:
    settings = {"monitor": "val_loss", "predictor": "universal"}
    for lr in RATES[:6]:
        assert not run(tmp_path, lr, **settings).decision.stop
    low = run(tmp_path, 1e-6, **settings)
    assert low.decision.stop and "to end among the best" in low.decision.reason


def test_a_run_of_several_processes_is_stopped_on_all(folder: Path, tmp_path: Path) -> None:
    """The first starts the other one, as Lightning does it."""
    code, said = run_warm(SUPPORT / "earlier_runs_script.py", folder, folder=tmp_path)
    assert code == 0, said
    assert said.count("ended after") == 2 and "ended after 4 epochs" not in said


def test_min_epochs_go_before(folder: Path) -> None:
    callback = GraphDynamicsCallback(monitor="val_acc", verbose=False)
    training = L.Trainer(
        logger=CSVLogger(folder), callbacks=[callback], max_epochs=EPOCHS, min_epochs=2, accelerator="cpu",
        enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    training.fit(Perceptron(1e-6))
    assert callback.decision.stop and training.current_epoch >= 2
