"""The callback reads losses and validation accuracies, and judges by them together with the weights."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import BATCHES, Digits, curve_reader, times, trainer
from digits_runs import DOOMED, GOOD, predictor, run_of
from resumable_runs import Resumable
from torch import Tensor

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.predictor import TrainingSetup
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES

SGD = TrainingSetup(BATCHES, "sgd")


def means(values: list[float], lately: int) -> list[float]:
    return [sum(values) / len(values), sum(values[-lately:]) / len(values[-lately:])]


@pytest.mark.parametrize("lr", [GOOD, DOOMED])
def test_verdicts_are_those_of_the_same_run_without_lightning(lr: float) -> None:
    callback = curve_reader()
    trainer(callback).fit(Digits(lr, seed=3, validate=True))
    history, curve = run_of(lr, seed=3)
    found = callback.session.record.curve()
    assert found.losses == {
        time: pytest.approx(pair, rel=1e-4, abs=1e-5) for time, pair in curve.losses.items()
    }
    assert found.accuracies == pytest.approx(curve.accuracies, abs=1e-6)
    assert found.classes == 10
    assert [verdict.epoch for verdict in callback.verdicts] == [*DEFAULT_TIMES, 1.0, 2.0, 3.0]
    for count, verdict in enumerate(callback.verdicts, start=2):
        wanted = predictor(curves=True).predict(history[:count], curve=curve, training=SGD)
        assert verdict.kind == wanted.kind == "fused"
        assert verdict.epoch == wanted.epoch and verdict.in_domain == wanted.in_domain
        assert verdict.p_low == pytest.approx(wanted.p_low, abs=1e-3)
        wanted = wanted.at_least(max(curve.accuracies[: int(verdict.epoch)], default=0.0))
        assert verdict.predicted_accuracy == pytest.approx(wanted.predicted_accuracy, abs=1e-3)
        assert verdict.relative_accuracy == pytest.approx(wanted.relative_accuracy, abs=1e-3)


def test_a_doomed_run_is_stopped_at_once_and_one_that_stalls_after_its_validation() -> None:
    callback = curve_reader(action="stop")
    run = trainer(callback)
    run.fit(Digits(DOOMED, validate=True))
    assert callback.decision.stop and run.global_step == 2

    class Stalls(Digits):
        """Validation says that nothing is learned, which the weights cannot know."""

        def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
            self.log("val_accuracy", 0.1)

    stalled, good = (curve_reader(action="stop", threshold=0.3) for _ in range(2))
    trainer(stalled).fit(Stalls(GOOD, seed=3, validate=True))
    trainer(good).fit(Digits(GOOD, seed=3, validate=True))
    assert stalled.verdicts[:4] == good.verdicts[:4]  # before the first validation
    assert stalled.decision.stop and stalled.decision.epoch == times(stalled)[-1] == 1.0
    assert not good.decision.stop and times(good)[-1] == 3.0


def test_an_epochs_verdict_uses_that_epochs_validation() -> None:
    class Seen(L.Callback):
        def __init__(self) -> None:
            self.known: list[tuple[str, int, int]] = []

        def on_validation_end(self, trainer: Any, *_: Any) -> None:
            self.note("validation", trainer)

        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            self.note("epoch", trainer)

        def note(self, when: str, trainer: Any) -> None:
            ends = [verdict for verdict in callback.verdicts if verdict.epoch >= 1]
            self.known.append((when, len(callback.session.record.accuracies), len(ends)))

    callback, seen = curve_reader(), Seen()
    trainer(callback, seen, max_epochs=2, num_sanity_val_steps=0).fit(Digits(validate=True))
    assert seen.known == [("validation", 1, 0), ("epoch", 1, 1), ("validation", 2, 1), ("epoch", 2, 2)]


def test_of_several_validations_in_an_epoch_the_last_counts() -> None:
    class Counting(Digits):
        count = 0

        def on_validation_epoch_end(self) -> None:
            self.count += not self.trainer.sanity_checking
            self.log("count", self.count / 10)

    callback = curve_reader(monitor="count")
    trainer(callback, max_epochs=2, val_check_interval=0.25).fit(Counting(validate=True))
    assert callback.session.record.accuracies == pytest.approx([0.4, 0.8])


def test_without_a_monitor_the_weights_alone_are_judged() -> None:
    callback = curve_reader(monitor=None)
    trainer(callback, max_epochs=1).fit(Digits(validate=True))
    assert {verdict.kind for verdict in callback.verdicts} == {"weights"}
    assert callback.session.record.accuracies == []


def test_a_predictor_without_curves_judges_by_weights_whatever_is_monitored() -> None:
    callback = GraphDynamicsCallback(
        predictor(), monitor="val_accuracy", action="observe", threshold=0.5, strict=True
    )
    trainer(callback, max_epochs=2).fit(Digits(validate=True))
    assert {verdict.kind for verdict in callback.verdicts} == {"weights"}
    assert callback.verdicts[-1].epoch == 2.0 and len(callback.session.record.accuracies) == 2


def test_with_too_few_good_runs_a_rate_is_named_with_which_a_hopeless_run_is_stopped() -> None:
    own = predictor(curves=True)
    callback = GraphDynamicsCallback(own, monitor="val_accuracy")
    trainer(callback).fit(Digits(DOOMED, validate=True))
    said = callback.decision.reason
    named = re.search(r"takes 19 of them .* corpus has 12; .*max_false_stop_rate=([\d.]+) can be kept", said)
    assert not callback.decision.stop and named is not None, said
    for lr, stops in ((DOOMED, True), (GOOD, False)):
        allowed = GraphDynamicsCallback(own, monitor="val_accuracy", max_false_stop_rate=float(named[1]))
        trainer(allowed).fit(Digits(lr, validate=True))
        assert allowed.decision.stop is stops, allowed.decision.reason


def ours(found: Any) -> list[str]:
    return [str(warning.message) for warning in found if warning.category is NNDynWarning]


class NoShare(Digits):
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val_accuracy", 250.0)


class NeverFinite(Digits):
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val_accuracy", math.nan)


@pytest.mark.parametrize(
    ("model", "monitor", "complaint"),
    [
        (Digits(validate=True), "val_acc", "'val_acc' was not logged by validation.*logged: val_accuracy"),
        (Digits(), "val_accuracy", "'val_accuracy' was not logged by validation.*logged: none"),
        (NoShare(validate=True), "val_accuracy", "'val_accuracy' is 250; .*between 0 and 1"),
        (NeverFinite(validate=True), "val_accuracy", "'val_accuracy' has not been finite: runs"),
    ],
    ids=["another name", "no validation", "no share", "never finite"],
)
@pytest.mark.parametrize("snapshots", [None, (1, 2, 3)])
def test_a_metric_that_is_not_there_is_missed_once(
    model: Any, monitor: str, complaint: str, snapshots: Any
) -> None:
    callback = curve_reader(monitor=monitor, snapshots=snapshots)
    with pytest.warns(NNDynWarning, match=complaint) as found:
        run = trainer(callback)
        run.fit(model)
    assert len(ours(found)) == 1 and run.current_epoch == 3
    assert times(callback)[-1] == 3.0
    assert all(math.isnan(accuracy) for accuracy in callback.session.record.accuracies)
    if snapshots is None:
        assert [verdict.epoch for verdict in callback.verdicts] == list(DEFAULT_TIMES)
    else:
        assert {verdict.kind for verdict in callback.verdicts} == {"weights"}


def test_with_validation_every_other_epoch_there_is_a_verdict_after_each() -> None:
    callback = curve_reader()
    with warnings.catch_warnings():
        warnings.simplefilter("error", NNDynWarning)
        trainer(callback, max_epochs=4, check_val_every_n_epoch=2).fit(Digits(seed=3, validate=True))
    assert [verdict.epoch for verdict in callback.verdicts] == [*DEFAULT_TIMES, 2.0, 3.0]
    assert {verdict.kind for verdict in callback.verdicts} == {"fused"}
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0, 2.0, 3.0, 4.0]
    second = run_of(GOOD, seed=3)[1].accuracies[1]
    assert callback.session.record.curve().accuracies[:2] == pytest.approx([(0.1 + second) / 2, second])


class Manual(Digits):
    """Manual optimization that says nothing of its loss."""

    returns = False

    def __init__(self) -> None:
        super().__init__(validate=True)
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self.loss(batch)
        self.manual_backward(loss)
        optimizer.step()
        return {"loss": loss} if self.returns else None


def test_without_a_loss_the_weights_alone_are_judged_and_it_is_said() -> None:
    callback = curve_reader()
    with pytest.warns(NNDynWarning, match="returns no finite loss") as found:
        trainer(callback, max_epochs=2).fit(Manual())
    assert len(ours(found)) == 1
    assert {verdict.kind for verdict in callback.verdicts} == {"weights"}
    assert callback.verdicts[-1].epoch == 2.0


def test_manual_optimization_may_return_its_loss() -> None:
    class Telling(Manual):
        returns = True

    callback, model = curve_reader(), Telling()
    trainer(callback, max_epochs=1).fit(model)
    assert {verdict.kind for verdict in callback.verdicts} == {"fused"}
    assert callback.session.record.losses[1.0] == pytest.approx(means(model.losses, 2), rel=1e-5)


def test_accumulated_gradients_do_not_make_losses_smaller() -> None:
    """Lightning hands on a loss that it has divided by the number of batches."""
    callback, model = curve_reader(), Digits(validate=True)
    trainer(callback, max_epochs=1, accumulate_grad_batches=5).fit(model)
    assert callback.session.record.losses[1.0] == pytest.approx(means(model.losses, 2), rel=1e-5)


def test_a_run_that_diverges_at_once_is_not_said_to_have_no_loss() -> None:
    callback = curve_reader()
    with warnings.catch_warnings():
        warnings.simplefilter("error", NNDynWarning)
        trainer(callback, max_epochs=1).fit(Digits(1e20, validate=True))
    assert callback.verdicts[0].diverged and callback.decision.stop


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 4}])
def test_observing_leaves_weights_and_losses_bit_equal(settings: dict[str, Any]) -> None:
    plain, watched = Digits(validate=True), Digits(validate=True)
    trainer(max_epochs=2, **settings).fit(plain)
    before = torch.get_rng_state()
    torch.manual_seed(0)
    callback = curve_reader()
    trainer(callback, max_epochs=2, **settings).fit(watched)
    assert torch.equal(before, torch.get_rng_state())
    assert callback.verdicts[-1].kind == "fused"
    assert plain.losses == watched.losses
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, watched.state_dict()[name]), name


class Saver(L.Callback):
    """Saves after so many batches, in the hook that is asked for."""

    def __init__(self, path: Path, batches: int, hook: str) -> None:
        self.path, self.batches = path, batches
        setattr(self, hook, self.save)

    def save(self, trainer: Any, *_: Any, **__: Any) -> None:
        if trainer.global_step == self.batches and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize(
    ("batches", "hook"),
    [
        (1, "on_train_batch_end"),
        (11, "on_train_batch_end"),
        (BATCHES + 7, "on_train_batch_end"),
        (BATCHES, "on_validation_end"),
        (BATCHES, "on_train_epoch_end"),
        (2 * BATCHES, "on_train_epoch_end"),
    ],
)
def test_a_resumed_run_has_the_verdicts_of_the_unbroken_one(tmp_path: Path, batches: int, hook: str) -> None:
    path, unbroken, resumed = tmp_path / "run.ckpt", curve_reader(), curve_reader()
    trainer(unbroken, Saver(path, batches, hook)).fit(Resumable())
    torch.load(path, weights_only=True)
    trainer(resumed).fit(Resumable(), ckpt_path=path)
    for found, wanted in zip(resumed.history, unbroken.history, strict=True):
        assert found.epoch == wanted.epoch
        assert found.statistics == pytest.approx(wanted.statistics, rel=1e-5, abs=1e-6)
        assert found.distances == pytest.approx(wanted.distances, rel=1e-5)
    assert unbroken.history[-1].distances[0] > 0.01
    assert resumed.session.record.losses == unbroken.session.record.losses
    assert resumed.session.record.accuracies == unbroken.session.record.accuracies
    assert [v.kind for v in resumed.verdicts] == [v.kind for v in unbroken.verdicts] == ["fused"] * 7
    for found, wanted in zip(resumed.verdicts, unbroken.verdicts, strict=True):
        assert (found.epoch, found.in_domain) == (wanted.epoch, wanted.in_domain)
        assert found.p_low == pytest.approx(wanted.p_low, abs=1e-4)
        assert found.distance == pytest.approx(wanted.distance, rel=1e-3)


class Surprising(Digits):
    """It validates poorly as long as the predictor reads it, and better than anyone expected later."""

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val_accuracy", 0.2 if self.current_epoch < 4 else 0.97 + self.current_epoch / 1000)


@pytest.mark.parametrize("snapshots", [None, (1, 2)], ids=["each epoch", "the first two epochs"])
def test_no_prediction_is_worse_than_what_was_seen_since(snapshots: Any) -> None:
    callback = curve_reader(snapshots=snapshots)
    run = trainer(callback, max_epochs=7)
    run.fit(Surprising(GOOD, seed=3, validate=True))
    last = max(predictor(curves=True).times)
    early = [verdict for verdict in callback.verdicts if verdict.epoch <= last]
    late = [verdict for verdict in callback.verdicts if verdict.epoch > last]
    assert early[-1].predicted_accuracy < 0.97
    # One more whenever the run has seen more than was predicted last, and none in between.
    assert [(verdict.epoch, verdict.predicted_accuracy) for verdict in late] == [
        (5.0, pytest.approx(0.974)),
        (6.0, pytest.approx(0.975)),
        (7.0, pytest.approx(0.976)),
    ]
    assert run.callback_metrics["nndyn/predicted_accuracy"] == pytest.approx(0.976)
    assert "predicted final accuracy 97.6 %" in callback.decision.reason


def test_a_late_stop_says_when_it_was_decided_and_why_it_is_late() -> None:
    """The curve alone has been read since the weights spoke, and does not stop what they know."""
    callback = GraphDynamicsCallback(monitor="val_accuracy", max_false_stop_rate=0.9)
    run = trainer(callback, max_epochs=8, min_epochs=7)
    run.fit(Digits(DOOMED, validate=True))
    assert callback.verdicts[-1].kind == "curve" and run.current_epoch == 7
    assert callback.decision.reason.endswith("after 5 epochs; it might not be stopped before 7 epochs")
