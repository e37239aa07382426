"""Predictors of one's own from recorded runs, and verdicts on checkpoints."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import BATCHES, Digits, curve_reader, trainer, watcher
from digits_runs import DOOMED, GOOD, history_of, predictor
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from typer.testing import CliRunner

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.callback.record_file import read_record
from lightning_nndyn.cli import app
from lightning_nndyn.errors import NNDynWarning, PredictorError
from lightning_nndyn.evaluation import fit_runs, load_runs, predict_checkpoints


def records(folder: Path) -> list[dict[str, Any]]:
    return [read_record(file) for file in sorted(folder.rglob("nndyn-*.json"))]


# -- predictors of one's own ---------------------------------------------------------------------------------


class OnlyPercent(Digits):
    def on_validation_epoch_end(self) -> None:
        self.log("percent", 100 * self.trainer.callback_metrics["val_accuracy"])


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 runs of two epochs, half of them hopeless; one was stopped."""
    folder = tmp_path_factory.mktemp("sweep")
    rates = [*torch.linspace(0.02, 0.08, 12).tolist(), *torch.logspace(-6, -4, 12).tolist()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed, rate in enumerate(rates):
            callback = GraphDynamicsCallback(None, monitor="val_accuracy", strict=True)
            logger = CSVLogger(folder, name="runs")
            trainer(callback, logger=logger, max_epochs=2).fit(OnlyPercent(rate, seed, validate=True))
        stopped = watcher(monitor="val_accuracy")
        trainer(stopped, logger=CSVLogger(folder, name="runs")).fit(Digits(DOOMED, validate=True))
    return folder


def test_recorded_runs_are_what_was_trained(sweep: Path) -> None:
    runs = load_runs(sweep)
    assert sorted(run.status for run in runs) == ["finished"] * 24 + ["stopped"]
    by_rate = sorted((run for run in runs if run.status == "finished"), key=lambda run: run.accuracy or 0)
    assert by_rate[0].accuracy < 0.3 < 0.4 < by_rate[-1].accuracy
    for run in by_rate:
        assert run.accuracy == max(run.curve.accuracies) and len(run.curve.accuracies) == 2
        assert run.curve.known((0.0625, 0.125, 0.25, 0.5, 1.0, 2.0)) and run.curve.classes == 10
        assert (run.training.optimizer, run.training.steps_per_epoch) == ("sgd", BATCHES)


def test_a_predictor_of_ones_own_knows_ones_own_runs(sweep: Path) -> None:
    with pytest.warns(NNDynWarning, match="1 of 25 runs were stopped.*action='observe'"):
        fitted = fit_runs(sweep, metric="val_accuracy", low_share=0.5)
    assert fitted.card["runs"] == 24 and fitted.reads_curves and fitted.low_share == 0.5
    assert fitted.card["corpus"] == f"24 runs under {sweep.name}"
    early = max(score["spearman"] for score in fitted.card["scores"] if score["time"] == 0.25)
    assert early > 0.5
    callback = GraphDynamicsCallback(fitted, monitor="val_accuracy", action="observe", strict=True)
    trainer(callback, max_epochs=2).fit(Digits(GOOD, seed=77, validate=True))
    assert {(verdict.kind, verdict.in_domain) for verdict in callback.verdicts} == {("fused", True)}
    good = callback.verdicts[-1]
    trainer(callback, max_epochs=2).fit(Digits(DOOMED, seed=77, validate=True))
    doomed = callback.verdicts[-1]
    assert good.p_low < 0.3 < 0.7 < doomed.p_low
    assert good.relative_accuracy > 0.6 > 0.3 > doomed.relative_accuracy


def test_it_knows_that_it_does_not_know_another_network_or_optimizer(sweep: Path) -> None:
    class Wide(Digits):
        def __init__(self) -> None:
            super().__init__(validate=True)
            self.net[0] = torch.nn.Conv2d(1, 12, 5, padding=2)
            self.net[3] = torch.nn.Conv2d(12, 16, 5, padding=2)

    class Adam(Digits):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.net.parameters(), lr=1e-3)

    fitted = fit_runs(sweep)  # by each run's own monitor
    for model, why in ((Wide(), "num_nodes"), (Adam(validate=True), "trained by adam")):
        callback = GraphDynamicsCallback(fitted, monitor="val_accuracy", threshold=0.0, strict=True)
        trainer(callback, max_epochs=1).fit(model)
        assert not any(verdict.in_domain for verdict in callback.verdicts) and not callback.decision.stop
        assert why in callback.verdicts[-1].note


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            {"metric": "val_acc"},
            r"none of 25 runs \(24 finished, 1 stopped\).*'val_acc'.*percent, val_accuracy",
        ),
        ({"metric": "percent"}, "percent is .*between 0 and 1.*not as percentages"),
        ({"low_threshold": 0.001}, "0 low and 24 good runs"),
        ({"low_share": 1.5}, "low_share=1.5"),
    ],
)
def test_fitting_to_runs_is_refused_in_words(sweep: Path, settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PredictorError, match=complaint):
        fit_runs(sweep, **settings)


def test_a_folder_without_usable_records_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match=r"no records of runs.*train with GraphDynamicsCallback"):
        fit_runs(tmp_path)
    trainer(watcher(None, record=tmp_path), max_epochs=1).fit(Digits())
    with pytest.raises(PredictorError, match=r"has finished with a monitor.*there are none"):
        fit_runs(tmp_path)
    (file,) = tmp_path.iterdir()
    content = json.loads(file.read_text())
    del content["verdicts"]
    for broken in ("{", "[]", '{"format": 99}', json.dumps(content)):
        file.write_text(broken)
        with pytest.raises(PredictorError, match=file.name):
            load_runs(tmp_path)


def test_a_metric_that_is_to_fall_is_refused(tmp_path: Path) -> None:
    callback = watcher(None, monitor="val_accuracy", mode="min", record=tmp_path)
    trainer(callback, max_epochs=1).fit(Digits(validate=True))
    with pytest.raises(PredictorError, match=r"is to fall in .*predictors know accuracies"):
        fit_runs(tmp_path)


# -- verdicts on checkpoints ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run with the callback, and of one without, in two folders."""
    folder = tmp_path_factory.mktemp("checkpoints")

    class First(L.Callback):
        def on_train_start(self, trainer: Any, *_: Any) -> None:
            trainer.save_checkpoint(folder / "without" / "start.ckpt")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saver = ModelCheckpoint(folder / "with", save_top_k=-1, filename="{epoch}")
        trainer(curve_reader(), saver, enable_checkpointing=True).fit(Digits(seed=3, validate=True))
        saver = ModelCheckpoint(folder / "without", save_top_k=-1, filename="{epoch}")
        within = ModelCheckpoint(folder / "without", save_top_k=-1, filename="{step}", every_n_train_steps=40)
        run = trainer(First(), saver, within, enable_checkpointing=True)
        run.fit(Digits(seed=3))
        run.save_checkpoint(folder / "without" / "last.ckpt")
    return folder


def test_checkpoints_with_the_callback_give_the_verdicts_of_their_run(checkpoints: Path) -> None:
    live = curve_reader()
    trainer(live).fit(Digits(seed=3, validate=True))
    scored = list(predict_checkpoints([checkpoints / "with"], predictor(curves=True)))
    assert [one.file.stem for one in scored] == ["epoch=0", "epoch=1", "epoch=2"]
    assert [one.verdict for one in scored] == live.verdicts[-3:]
    by_weights = list(predict_checkpoints([checkpoints / "with"], predictor()))
    assert [one.verdict.kind for one in by_weights if one.verdict] == ["weights"] * 3


def test_of_other_checkpoints_the_weights_are_read(checkpoints: Path) -> None:
    scored = {
        one.file.stem: one
        for one in predict_checkpoints(
            [checkpoints / "without"], predictor(), model="digits_runs:network", shape=(1, 8, 8)
        )
    }
    history, _ = history_of(GOOD, seed=3)
    ends = [snapshot for snapshot in history if snapshot.epoch == int(snapshot.epoch)]
    assert scored["start"].why == "where the run begins"
    assert "within an epoch" in scored["step=40"].why and "within an epoch" in scored["step=80"].why
    for epoch in (1, 2, 3):
        found, wanted = scored[f"epoch={epoch - 1}"].verdict, predictor().predict(ends[: epoch + 1])
        assert found is not None and found.epoch == epoch
        assert found.p_low == pytest.approx(wanted.p_low, abs=1e-3)
    assert scored["last"].verdict is None and "another checkpoint after 3 epochs" in scored["last"].why


def test_checkpoints_without_the_callback_or_a_beginning_say_what_is_missing(
    checkpoints: Path, tmp_path: Path
) -> None:
    (one,) = predict_checkpoints([checkpoints / "without" / "start.ckpt"], predictor())
    assert one.verdict is None and "give the model" in one.why
    files = [checkpoints / "without" / f"epoch={epoch}.ckpt" for epoch in (0, 1)]
    for one in predict_checkpoints(files, predictor(), model="digits_runs:network", shape=(1, 8, 8)):
        assert one.verdict is None and "before the first step" in one.why
    (tmp_path / "a.ckpt").write_text("no checkpoint")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "b.ckpt")
    torch.save({"path": tmp_path}, tmp_path / "c.ckpt")
    for one in predict_checkpoints([tmp_path], predictor()):
        assert one.verdict is None and "not a checkpoint" in one.why


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("digits_runs", "package.module:name"),
        ("nowhere_at_all:network", "nowhere_at_all"),
        ("digits_runs:nothing", "nothing"),
        ("torch.nn:Linear", "cannot be made without arguments"),
        ("digits_runs:digits", "not a torch module"),
        ("lightning_nndyn.corpus.models:vgg7", "no weights for"),
    ],
)
def test_a_wrong_model_is_named(checkpoints: Path, model: str, complaint: str) -> None:
    with pytest.raises(PredictorError, match=complaint):
        list(predict_checkpoints([checkpoints / "without"], predictor(), model=model))


# -- from the command line -----------------------------------------------------------------------------------


def nndyn(*arguments: Any) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "250"})


def assert_that_its_advice_works(said: str, own: Path) -> None:
    """With the rate that the command names, and the default one, a hopeless run is trained."""
    advised = re.search(
        r"(\d+) of its runs are good.*stops 0 of .*max_false_stop_rate=([\d.]+) it stops", said
    )
    assert advised is not None and "can be promised from 19 on" in said, said
    assert f"{1 / (int(advised[1]) + 1):.1%} is the least with {advised[1]})" in said, said
    rate = float(advised[2])
    for allowed, stops in ((0.05, False), (rate, True)):
        callback = GraphDynamicsCallback(own, monitor="val_accuracy", max_false_stop_rate=allowed)
        trainer(callback, max_epochs=2).fit(OnlyPercent(2e-6, 40, validate=True))
        assert callback.decision.stop is stops, callback.decision.reason
        assert stops or f"corpus has {advised[1]}" in callback.decision.reason


def test_fit_and_predict_from_the_command_line(
    sweep: Path, checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own"
    fitted = nndyn("fit", "--runs", sweep, "--metric", "val_accuracy", "--name", "mine", own)
    assert fitted.exit_code == 0, fitted.output
    assert "weights + curve" in fitted.output and "24 runs of mine" in fitted.output
    assert json.loads(own.with_suffix(".json").read_text())["corpus"] == "mine"
    assert_that_its_advice_works(fitted.output, own)
    told = nndyn("predict", checkpoints / "with", "--predictor", own)
    assert told.exit_code == 0, told.output
    assert "below 50% of the best" in told.output
    assert [name in told.output for name in ("epoch=0.ckpt", "epoch=1.ckpt", "epoch=2.ckpt")] == [True] * 3
    (tmp_path / "mine.py").write_text("from digits_runs import network\n")
    arguments = ["--model", "mine:network", "--input", "1x8x8", "--predictor", own]
    read = nndyn("predict", checkpoints / "without", *arguments)
    assert read.exit_code == 0, read.output
    assert "where the run begins" in read.output and "within an epoch" in read.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["fit", "--runs", "nowhere", "out"], "no records of runs"),
        (["fit", "--runs", "nowhere", "corpus", "out"], "--runs FOLDER"),
        (["fit", "out"], "--runs FOLDER"),
        (["predict", "nowhere", "--predictor", "own"], "no checkpoints"),
        (["predict", "nowhere", "--predictor", "nonsense"], "nonsense"),
        (["predict", "nowhere", "--predictor", "own", "--input", "1,8"], "no shape such as"),
    ],
)
def test_mistakes_are_answered_in_words(
    tmp_path: Path, arguments: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    predictor().save(tmp_path / "own")
    done = nndyn(*arguments)
    assert done.exit_code != 0 and isinstance(done.exception, PredictorError | SystemExit)
    assert complaint in f"{done.output}{done.exception}"


def test_help_shows_an_example() -> None:
    for command in ("fit", "predict"):
        assert f"nndyn {command}" in CliRunner().invoke(app, [command, "--help"]).output
