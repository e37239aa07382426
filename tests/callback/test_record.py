"""Each run leaves a record, of which one makes predictors of one's own; and verdicts on checkpoints."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import BATCHES, Digits, curve_reader, outcome, times, trainer, watcher
from digits_runs import DOOMED, GOOD, history_of, predictor
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from processes import environment
from torch import Tensor
from typer.testing import CliRunner

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.callback import record_file
from lightning_nndyn.callback.metrics import LoggedMetrics
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import read_record, write_record
from lightning_nndyn.cli import app
from lightning_nndyn.errors import NNDynWarning, PredictorError
from lightning_nndyn.evaluation import fit_runs, load_runs, predict_checkpoints


def records(folder: Path) -> list[dict[str, Any]]:
    return [read_record(file) for file in sorted(folder.rglob("nndyn-*.json"))]


# -- the record of one run -----------------------------------------------------------------------------------


def test_the_record_reads_back_to_what_the_callback_knows(tmp_path: Path) -> None:
    callback = curve_reader()
    run = trainer(callback, logger=CSVLogger(tmp_path), max_epochs=2)
    run.fit(Digits(seed=3, validate=True))
    (file,) = tmp_path.rglob("nndyn-*.json")
    assert file.parent == Path(run.log_dir) and file.name == f"nndyn-{callback.session.record.run}.json"
    found = Record.from_dict(read_record(file))
    assert (found.history, found.verdicts) == (callback.history, callback.verdicts)
    assert found.decision == callback.decision and found.training == callback.session.record.training
    assert found.curve() == callback.session.record.curve()
    content = read_record(file)
    assert (content["status"], content["monitor"], content["action"]) == (
        "finished",
        "val_accuracy",
        "observe",
    )
    assert (content["optimizer"], content["steps_per_epoch"], content["max_epochs"]) == ("sgd", BATCHES, 2)
    assert content["metrics"] == {"val_accuracy": pytest.approx(callback.session.record.accuracies)}
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_diverged_run_has_a_record_too(tmp_path: Path) -> None:
    callback = watcher(action="observe", record=tmp_path)
    trainer(callback, max_epochs=1).fit(Digits(1e20))
    (found,) = map(Record.from_dict, records(tmp_path))
    assert not found.history[-1].finite and found.verdicts == callback.verdicts


def test_metrics_are_those_after_each_epoch(tmp_path: Path) -> None:
    class Late(Digits):
        """Has nothing to log in its first epoch, and nothing finite in its second."""

        def on_train_epoch_end(self) -> None:
            if self.current_epoch:
                self.log("late", [math.inf, 2.5][self.current_epoch - 1])

    trainer(watcher(None, record=tmp_path)).fit(Late())
    (found,) = records(tmp_path)
    assert found["metrics"] == {"late": [None, None, 2.5]}


def test_an_epoch_without_validation_has_no_metric_and_lies_on_the_line_between(tmp_path: Path) -> None:
    """The Trainer goes on showing the last validation's; with `monitor` it was always known to be old."""
    for monitor in ("val_accuracy", None):
        callback = watcher(None, monitor=monitor, record=tmp_path / str(monitor))
        trainer(callback, max_epochs=6, check_val_every_n_epoch=3).fit(Digits(seed=3, validate=True))
    (told,), (untold,) = (load_runs(tmp_path / name, "val_accuracy") for name in ("val_accuracy", "None"))
    (found,) = records(tmp_path / "None")
    row = found["metrics"]["val_accuracy"]
    assert [value is None for value in row] == [True, True, False] * 2
    assert untold.curve.accuracies == told.curve.accuracies
    assert untold.curve.accuracies[3] == pytest.approx((2 * row[2] + row[5]) / 3)


def test_a_metric_that_is_written_to_in_place_is_noted_each_time() -> None:
    record, value = Record(), torch.zeros(())
    metrics = LoggedMetrics()
    for epoch in (1, 2, 3):
        metrics.record_epoch(record, epoch, {"count": value.fill_(epoch), "constant": torch.ones(())})
    assert record.metrics == {"count": [1, 2, 3], "constant": [1, 1, 1]}


def test_without_a_logger_there_is_no_record_but_where_a_folder_is_given(tmp_path: Path) -> None:
    trainer(watcher(None), max_epochs=1, default_root_dir=tmp_path).fit(Digits())
    trainer(watcher(None, record=False), max_epochs=1, logger=CSVLogger(tmp_path)).fit(Digits())
    assert records(tmp_path) == []
    for _ in range(2):
        trainer(watcher(None, record=str(tmp_path / "a" / "b")), max_epochs=1).fit(Digits())
    first, second = records(tmp_path / "a" / "b")
    assert first["run"] != second["run"] and first["status"] == second["status"] == "finished"


def test_two_fits_of_one_callback_are_two_records(tmp_path: Path) -> None:
    callback = watcher(None, record=tmp_path)
    for _ in range(2):
        trainer(callback, max_epochs=1).fit(Digits())
    assert len({found["run"] for found in records(tmp_path)}) == 2


class Failing(Digits):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.current_epoch == 1 and batch_idx == 5:
            raise self.error
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("error", [RuntimeError("out of order"), KeyboardInterrupt()])
def test_an_interrupted_run_says_so(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises((RuntimeError, SystemExit)):
        trainer(watcher(None, record=tmp_path)).fit(Failing(error))
    (found,) = records(tmp_path)
    assert found["status"] == "interrupted"
    assert [snapshot["epoch"] for snapshot in found["history"]][-1] == 1.0


def test_a_stopped_run_says_so_and_one_condemned_at_its_very_end_has_finished(tmp_path: Path) -> None:
    trainer(watcher(record=tmp_path / "stopped")).fit(Digits(DOOMED))
    trainer(watcher(record=tmp_path / "end", snapshots=(1,)), max_epochs=1).fit(Digits(DOOMED))
    (stopped,), (end,) = records(tmp_path / "stopped"), records(tmp_path / "end")
    assert stopped["decision"]["stop"] and stopped["status"] == "stopped"
    assert end["decision"]["stop"] and end["status"] == "finished"


def test_a_run_whose_callback_gives_up_does_not_seem_to_go_on(tmp_path: Path) -> None:
    class Moody(type(predictor())):  # type: ignore[misc]
        def __init__(self) -> None:
            self.__dict__.update(predictor().__dict__)

        def predict(self, history: Any, **_: Any) -> Any:
            raise ZeroDivisionError

    with pytest.warns(NNDynWarning, match="gives up"):
        trainer(watcher(Moody(), record=tmp_path, strict=False), max_epochs=2).fit(Digits())
    (found,) = records(tmp_path)
    assert found["status"] == "interrupted"


KILLED = """
import sys, time
from callback_runs import Digits, curve_reader, trainer
import lightning.pytorch as L

class Wait(L.Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 2:
            print("waiting", flush=True)
            time.sleep(100)

trainer(curve_reader(record=sys.argv[1]), Wait(), max_epochs=4).fit(Digits(validate=True))
"""


def test_a_killed_run_leaves_a_whole_record_of_its_last_epoch(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path)]
    run = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert any("waiting" in line for line in iter(run.stdout.readline, ""))
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    (found,) = records(tmp_path)
    assert found["status"] == "running" and len(found["metrics"]["val_accuracy"]) == 2
    assert Record.from_dict(found).verdicts[-1].epoch == 2.0


def test_a_reader_never_sees_half_a_record(tmp_path: Path) -> None:
    file, script = tmp_path / "nndyn-x.json", tmp_path / "write.py"
    script.write_text(
        "import sys; from pathlib import Path\n"
        "from lightning_nndyn.callback.record_file import write_record\n"
        "for i in range(10**6): write_record(Path(sys.argv[1]), {'values': [i] * 20_000})\n"
    )
    writer = subprocess.Popen([sys.executable, str(script), str(file)])
    try:
        while not file.exists():
            time.sleep(0.05)
        seen = {tuple(set(read_record(file)["values"])) for _ in range(200)}
    finally:
        writer.kill()
        writer.wait()
    assert all(len(values) == 1 for values in seen) and len(seen) > 1


def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("trouble", ["full disk", "a file is in the way"])
def test_where_the_record_cannot_be_written_it_is_said_once_and_training_goes_on(
    tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    if trouble == "full disk":
        monkeypatch.setattr(record_file, "write_record", full)
    else:
        folder.write_text("")
    callback, plain, watched = watcher(record=folder, action="observe"), Digits(), Digits()
    with pytest.warns(NNDynWarning, match=r"cannot write to .*this run's record is not kept") as found:
        trainer(callback).fit(watched)
    assert len([w for w in found if w.category is NNDynWarning]) == 1
    trainer().fit(plain)
    assert plain.losses == watched.losses and times(callback)[-1] == 3.0 and callback.verdicts


def test_a_write_that_fails_leaves_the_older_record(tmp_path: Path) -> None:
    file = tmp_path / "nndyn-x.json"
    write_record(file, {"value": 1})
    with pytest.raises(TypeError):
        write_record(file, {"value": object()})
    assert read_record(file)["value"] == 1 and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("cut", [BATCHES + 7, 2 * BATCHES])
def test_a_resumed_run_goes_on_with_its_record(tmp_path: Path, cut: int) -> None:
    class Save(L.Callback):
        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == cut:
                trainer.save_checkpoint(tmp_path / "run.ckpt")

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == cut and cut % BATCHES:
                trainer.save_checkpoint(tmp_path / "run.ckpt")

    first, second = (curve_reader(record=tmp_path) for _ in range(2))
    trainer(first, Save()).fit(Digits(validate=True))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not resumable.*")
        trainer(second, max_epochs=4).fit(Digits(validate=True), ckpt_path=tmp_path / "run.ckpt")
    (found,) = records(tmp_path)
    assert found["run"] == first.session.record.run and found["status"] == "finished"
    assert len(found["metrics"]["val_accuracy"]) == 4
    assert outcome(second) == (
        [s["epoch"] for s in found["history"]],
        Record.from_dict(found).verdicts,
        second.decision,
    )


def test_of_a_run_with_two_records_the_longer_one_counts(tmp_path: Path) -> None:
    first, second = watcher(None, record=tmp_path / "z"), watcher(None, record=tmp_path / "a")
    run = trainer(first, max_epochs=1)
    run.fit(Digits())
    run.save_checkpoint(tmp_path / "run.ckpt")
    trainer(second, max_epochs=2).fit(Digits(), ckpt_path=tmp_path / "run.ckpt")
    assert len(records(tmp_path)) == 2
    (found,) = load_runs(tmp_path)
    assert found.file.parent.name == "a" and found.history[-1].epoch == 2.0


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


def test_fit_and_predict_from_the_command_line(
    sweep: Path, checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own"
    fitted = nndyn("fit", "--runs", sweep, "--metric", "val_accuracy", "--name", "mine", own)
    assert fitted.exit_code == 0, fitted.output
    assert "weights + curve" in fitted.output and "24 runs of mine" in fitted.output
    assert json.loads(own.with_suffix(".json").read_text())["corpus"] == "mine"
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
