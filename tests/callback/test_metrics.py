"""The metrics that a model logs, by epochs."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import BATCHES, Digits, Scripted, curve_reader, trainer, watcher
from digits_runs import digits, loader
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_nndyn.callback.epochs import EpochCounter
from lightning_nndyn.callback.metrics import LoggedMetrics
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import read_record
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.evaluation import load_runs
from lightning_nndyn.predictor import LearningCurve
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES
from lightning_nndyn.sweep.run import curve_numbers


def records(folder: Path) -> list[dict[str, Any]]:
    return [read_record(file) for file in sorted(folder.rglob("nndyn-*.json"))]


def test_epochs_that_are_trained_again_lose_their_metrics() -> None:
    """A run that is resumed from a checkpoint of its second epoch."""
    record = Record(metrics={"loss": [4.0, 3.0, 2.0, 1.0], "other": [1.0] * 4})
    LoggedMetrics().record_epoch(record, 2, {"loss": torch.tensor(2.5)})
    assert record.metrics == {"loss": [4.0, 2.5], "other": [1.0, 1.0]}


@pytest.mark.parametrize(
    ("values", "percent", "found"),
    [
        ([0.5, 1 + 1e-7, 0.0], True, [0.5, 1.0, 0.0]),
        ([0.5, 1.1, -0.1], False, [0.5, math.nan, math.nan]),
        ([0.5, 50.0, 1.0, 100.1], True, [0.005, 0.5, 0.01, math.nan]),
        ([100.0, 101.0], True, [1.0, math.nan]),
        ([101.0, 0.5], True, [math.nan, 0.5]),
    ],
)
def test_an_accuracy_is_a_fraction_or_percent_from_the_first_value_above_1_on(
    values: list[float], percent: bool, found: list[float]
) -> None:
    record, metrics = Record(), LoggedMetrics("acc")
    metrics.may_be_percent = percent
    for epoch, value in enumerate(values):
        shown: Any = SimpleNamespace(callback_metrics={"acc": torch.tensor(value)}, world_size=1)
        metrics.record_validation(shown, record, epoch)
    assert record.accuracies == pytest.approx(found, nan_ok=True)


@pytest.mark.parametrize(
    ("monitor", "value", "said"),
    [
        ("acc", 0.5, ""),
        (None, 0.5, ""),
        ("acc", 1.5, "monitor='acc' is 1.5; give a metric that is an accuracy between 0 and 1 (logged: acc)"),
        ("other", 0.5, "monitor='other' was not logged by validation; give a metric that is an accuracy"),
    ],
)
def test_an_accuracy_is_missed_where_none_has_come(monitor: str | None, value: float, said: str) -> None:
    record, metrics = Record(), LoggedMetrics(monitor)
    facts = {"world_size": 1, "enable_validation": True, "check_val_every_n_epoch": 1}
    shown: Any = SimpleNamespace(callback_metrics={"acc": torch.tensor(value)}, **facts)
    counter = EpochCounter()
    assert metrics.complaint(shown, record, counter) == ""  # nothing should have come yet
    metrics.record_validation(shown, record, 0)
    complaint = metrics.complaint(shown, record, counter)
    assert complaint.startswith(said) and bool(complaint) is bool(said)


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


class Logs(Digits):
    """Logs in one hook what the test wants, by epochs counted from 0; None logs nothing."""

    hook, values, name, many = "on_train_epoch_end", (), "score", {}

    def say(self, hook: str) -> None:
        value = self.values[self.current_epoch] if not self.trainer.sanity_checking else None
        if hook == self.hook and value is not None:
            self.log(self.name, value, **self.many)

    def on_train_epoch_start(self) -> None:
        self.say("on_train_epoch_start")

    def on_train_epoch_end(self) -> None:
        self.say("on_train_epoch_end")

    def on_validation_epoch_end(self) -> None:
        self.say("on_validation_epoch_end")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.say("training_step")
        return super().training_step(batch, batch_idx)


HOOKS: dict[str, dict[str, Any]] = {
    "on_train_epoch_end": {},
    "on_train_epoch_start": {},
    "on_validation_epoch_end": {},
    "training_step": {"on_epoch": True, "on_step": False},
    "training_step, each": {"on_epoch": True, "on_step": True},
    "training_step, the last": {"on_epoch": False, "on_step": True},
}
SCORES = (0.25, None, 0.5, 0.5, None, 0.125)  # twice the same, and logged both times


def logging_in(hook: str, **settings: Any) -> Any:
    model = Logs(validate=True)
    model.hook, model.many, model.values = hook.partition(",")[0], HOOKS[hook], SCORES
    callback = watcher(None, monitor="score", **settings)
    return model, callback


@pytest.mark.parametrize("hook", HOOKS)
def test_a_metric_counts_for_the_epochs_that_log_it_and_for_no_other(tmp_path: Path, hook: str) -> None:
    model, callback = logging_in(hook, record=tmp_path)
    trainer(callback, max_epochs=6).fit(model)
    (found,) = records(tmp_path)
    assert found["accuracies"] == found["metrics"]["score"] == list(SCORES)
    (run,) = load_runs(tmp_path)
    assert run.curve.accuracies == [0.25, 0.375, 0.5, 0.5, 0.3125, 0.125] and run.accuracy == 0.5


class Logging(L.Callback):
    """Logs for the model, before our hooks or after them."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.log("early", float(trainer.current_epoch))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.log("late", float(trainer.current_epoch))


@pytest.mark.parametrize("first", [True, False])
def test_other_callbacks_may_log_before_ours_and_after_it(tmp_path: Path, first: bool) -> None:
    ours = watcher(None, record=tmp_path)
    trainer(*([Logging(), ours] if first else [ours, Logging()])).fit(Digits())
    (found,) = records(tmp_path)
    assert found["metrics"] == {"early": [0.0, 1.0, 2.0], "late": [0.0, 1.0, 2.0]}


def test_of_several_loaders_each_has_its_metric(tmp_path: Path) -> None:
    class Two(Digits):
        def val_dataloader(self) -> Any:
            return [loader(train=False), loader(train=False)]

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            if dataloader_idx == 0 or self.current_epoch != 1:
                self.log("score", 0.25 * dataloader_idx + 0.125 * self.current_epoch)

    callback = watcher(None, monitor="score/dataloader_idx_1", record=tmp_path)
    trainer(callback).fit(Two())
    (found,) = records(tmp_path)
    assert found["accuracies"] == [0.25, None, 0.5]
    assert found["metrics"]["score/dataloader_idx_0"] == [0.0, 0.125, 0.25]


@pytest.mark.parametrize("logged", [(1,), (4,), (1, 3)])
def test_of_the_validations_in_an_epoch_the_last_that_logs_it_counts(logged: tuple[int, ...]) -> None:
    class Sometimes(Digits):
        count = 0

        def on_validation_epoch_end(self) -> None:
            self.count += not self.trainer.sanity_checking
            if self.count in logged:  # in the first epoch alone
                self.log("score", self.count / 8)

    callback = watcher(None, monitor="score")
    trainer(callback, max_epochs=2, val_check_interval=0.25).fit(Sometimes(validate=True))
    first, second = callback.session.record.accuracies
    assert first == logged[-1] / 8 and math.isnan(second)


def test_a_stretch_of_steps_does_not_repeat_what_a_batch_has_logged_before_it(tmp_path: Path) -> None:
    class Seldom(Digits):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx in (3, 25):
                self.log("seldom", float(batch_idx))
            return super().training_step(batch, batch_idx)

    trainer(watcher(None, snapshot_every_n_steps=10, record=tmp_path), max_epochs=1).fit(Seldom())
    (found,) = records(tmp_path)
    assert found["metrics"] == {"seldom": [3.0, None, 25.0]}


def late_curve_reader() -> Any:
    class Late(Digits):
        def validation_step(self, *_: Any) -> None: ...

        def on_train_epoch_end(self) -> None:
            x, y = digits()[1].tensors
            with torch.no_grad():
                self.log("late", (self.net(x).argmax(1) == y).float().mean())

    return Late(validate=True), curve_reader(monitor="late")


def test_an_epoch_is_judged_with_its_metric_where_that_comes_after_our_hook(tmp_path: Path) -> None:
    model, callback = late_curve_reader()
    usual = curve_reader()
    with warnings.catch_warnings():
        warnings.simplefilter("error", NNDynWarning)
        trainer(callback).fit(model)
    trainer(usual).fit(Digits(validate=True))
    assert callback.session.record.accuracies == pytest.approx(usual.session.record.accuracies, abs=1e-6)
    assert [verdict.epoch for verdict in callback.verdicts] == [*DEFAULT_TIMES, 2.0, 3.0]
    for late, timely in zip(callback.verdicts[-2:], usual.verdicts[-2:], strict=True):
        assert late.p_low == timely.p_low and late.kind == "fused"


def test_a_decision_upon_a_late_metric_takes_effect_after_the_next_batch() -> None:
    model, _ = late_curve_reader()
    callback = watcher(Scripted({2.0: 1.0}), monitor="late")
    run = trainer(callback, max_epochs=5)
    run.fit(model)
    assert callback.decision.stop and run.global_step == 2 * BATCHES + 1
    at_its_end, model = watcher(Scripted({2.0: 1.0}), monitor="late"), late_curve_reader()[0]
    run = trainer(at_its_end, max_epochs=2)
    run.fit(model)
    assert at_its_end.decision.stop and not run.should_stop  # nothing is left to be stopped


def test_a_checkpoint_at_an_epochs_end_has_what_was_logged_after_our_hook(tmp_path: Path) -> None:
    model, callback = late_curve_reader()
    saver = ModelCheckpoint(tmp_path, monitor="late", mode="max", save_top_k=-1, filename="{epoch}")
    trainer(callback, saver, enable_checkpointing=True).fit(model)
    model, resumed = late_curve_reader()
    trainer(resumed).fit(model, ckpt_path=tmp_path / "epoch=1.ckpt")
    assert resumed.session.record.accuracies[:2] == callback.session.record.accuracies[:2]


def test_a_reading_of_a_sweep_has_no_curve_where_the_metric_is_missing() -> None:
    losses = {1.0: (0.5, 0.25), 2.0: (0.25, 0.125)}
    whole, cut, gap = (LearningCurve(losses, values, 10) for values in ([0.5, 0.75], [0.5], [0.5, math.nan]))
    assert len(curve_numbers(whole, 2.0)) == 5
    assert len(curve_numbers(cut, 2.0)) == len(curve_numbers(gap, 2.0)) == 0


def test_a_metric_that_is_written_to_in_place_is_noted_each_time() -> None:
    record, value = Record(), torch.zeros(())
    metrics = LoggedMetrics()
    for epoch in (1, 2, 3):
        metrics.record_epoch(record, epoch, {"count": value.fill_(epoch), "constant": torch.ones(())})
    assert record.metrics == {"count": [1, 2, 3], "constant": [1, 1, 1]}
