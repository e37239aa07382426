"""When the callback reads the weights, and when it stops a run."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import pytorch_lightning as PL
import torch
from callback_runs import BATCHES, Digits, Endless, Scripted, listening, rows, times, trainer, watcher
from digits_runs import DOOMED, GOOD, history_of, module_class
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from lightning_nndyn import (
    GraphDynamicsCallback,
    Predictor,
)
from lightning_nndyn.errors import NNDynWarning, PredictorError
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES


def test_snapshots_are_those_of_the_same_run_without_lightning() -> None:
    callback = watcher(action="observe")
    trainer(callback).fit(Digits(GOOD, seed=3))
    expected, _ = history_of(GOOD, seed=3)
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0, 2.0, 3.0] == [s.epoch for s in expected]
    for found, wanted in zip(callback.history, expected, strict=True):
        torch.testing.assert_close(
            torch.tensor(found.statistics), torch.tensor(wanted.statistics), rtol=1e-5, atol=1e-6
        )
    assert [verdict.epoch for verdict in callback.verdicts] == [*DEFAULT_TIMES, 1.0, 2.0, 3.0]


def test_explicit_times_are_the_only_ones() -> None:
    callback = watcher(None, snapshots=(2, 0.25, 1))
    trainer(callback).fit(Digits())
    assert times(callback) == [0.0, 0.25, 1.0, 2.0]


def test_an_epoch_of_few_batches_gives_every_time_its_snapshot() -> None:
    callback = watcher(action="observe")
    trainer(callback, limit_train_batches=2).fit(Digits())
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("wrong", [(1.5,), (-0.1,), (math.inf,), (math.nan,)])
def test_times_that_are_neither_fractions_nor_whole_are_refused(wrong: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="fractions of the first epoch"):
        GraphDynamicsCallback(snapshots=wrong)


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="'pause'"):
        GraphDynamicsCallback(action="pause")  # type: ignore[arg-type]
    with pytest.raises(PredictorError, match=r"max_false_stop_rate=1\.5"):
        GraphDynamicsCallback(max_false_stop_rate=1.5)
    with pytest.raises(PredictorError, match="threshold=-1"):
        GraphDynamicsCallback(threshold=-1)


def test_weights_that_have_not_moved_are_not_judged() -> None:
    callback = watcher(action="observe")
    run = trainer(callback, accumulate_grad_batches=10, max_epochs=1)
    run.fit(Digits(0.3))  # few steps, long ones
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0]
    start, *fractions, end = (snapshot.statistics for snapshot in callback.history)
    # The first step comes after ten batches: three times have passed, and wait for the fourth.
    assert start != fractions[0] != end
    assert all(fraction == pytest.approx(fractions[0], rel=1e-4) for fraction in fractions)


class Scaled(Digits):
    """Skips its first steps, as a gradient scaler does that begins too high."""

    skipped = 5

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any) -> None:
        if self.trainer.fit_loop.total_batch_idx < self.skipped:
            closure()
        else:
            super().optimizer_step(epoch, batch_idx, optimizer, closure)


def test_skipped_steps_are_waited_for() -> None:
    callback = watcher(action="observe")
    trainer(callback, max_epochs=1).fit(Scaled())
    first, second, third = callback.history[1:4]  # due after 2, 4 and 8 batches
    assert first.statistics == pytest.approx(third.statistics, rel=1e-4)
    assert callback.history[0].statistics != second.statistics == pytest.approx(third.statistics, rel=1e-4)
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0]


def test_without_a_length_only_epoch_ends_are_read() -> None:
    callback = watcher(None)
    with pytest.warns(NNDynWarning, match="no length") as found:
        trainer(callback, max_epochs=2).fit(Digits(), DataLoader(Endless(), batch_size=None))
    assert len([w for w in found if w.category is NNDynWarning]) == 1
    assert times(callback) == [0.0, 1.0, 2.0]


def test_an_epoch_that_max_steps_cuts_is_no_epoch_end() -> None:
    callback = watcher(None)
    trainer(callback, max_steps=BATCHES + 5, max_epochs=-1).fit(Digits())
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0]


class Skipping(Digits):
    """Ends every epoch after ten batches, in the second from the start."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 10 or self.current_epoch == 1 else None


def test_an_epoch_that_the_model_cuts_short_is_read_at_its_end(tmp_path: Path) -> None:
    callback = watcher(snapshots=(0.25, 1, 2), action="observe")
    stopper = EarlyStopping("nndyn/predicted_accuracy", mode="max")
    trainer(callback, stopper, max_epochs=2, logger=CSVLogger(tmp_path)).fit(Skipping())
    assert times(callback) == [0.0, 0.25, 1.0, 2.0]
    # The second epoch ends before its first batch, so its snapshot falls on the same step.
    assert [row["step"] for row in rows(tmp_path) if row["nndyn/stop"]] == ["9", "9"]


@pytest.mark.parametrize("pl", [L, PL], ids=["lightning", "pytorch_lightning"])
def test_a_doomed_run_is_stopped_and_a_good_one_is_not(pl: Any, caplog: pytest.LogCaptureFixture) -> None:
    doomed, good = watcher(), watcher()
    run = trainer(doomed, pl=pl)
    with caplog.at_level(logging.INFO), listening(caplog):
        run.fit(module_class(pl)(DOOMED))
    assert doomed.decision.stop and doomed.decision.epoch == DEFAULT_TIMES[0]
    assert run.global_step == 2 and times(doomed) == [0.0, 0.0625]  # a sixteenth of the epoch
    assert f"stops this run: {doomed.decision.reason}" in caplog.text
    assert "p_low" in doomed.decision.reason

    run = trainer(good, pl=pl)
    run.fit(module_class(pl)(GOOD))
    assert not good.decision.stop and run.current_epoch == 3
    assert good.verdicts[-1].p_low < 0.5


def test_observe_logs_what_would_have_been_done() -> None:
    callback = watcher(action="observe")
    run = trainer(callback)
    run.fit(Digits(DOOMED))
    assert run.current_epoch == 3 and not run.should_stop
    assert callback.decision.stop and callback.decision.epoch == DEFAULT_TIMES[0]
    assert run.callback_metrics["nndyn/stop"] == 1
    assert times(callback)[-1] == 3.0


def test_diverged_weights_stop_a_run_and_are_recorded() -> None:
    stopped, observed = watcher(threshold=1.0), watcher(threshold=1.0, action="observe")
    trainer(stopped).fit(Digits(1e3))
    assert stopped.decision.stop and "diverged" in stopped.decision.reason
    assert not stopped.history[-1].finite
    trainer(observed).fit(Digits(1e3))
    assert times(observed)[-1] == 3.0 and not observed.history[-1].finite
    assert observed.decision == stopped.decision


def test_min_epochs_holds_back_and_keeps_nothing() -> None:
    p_low = {0.0625: 1.0, 0.5: 1.0, 1.0: 1.0, 2.0: 0.0, 3.0: 0.0, 4.0: 1.0}
    callback, stops = watcher(Scripted(p_low)), Stops()
    run = trainer(callback, stops, max_epochs=6, min_epochs=2)
    run.fit(Digits())
    assert not any(stops.seen[: 3 * BATCHES])  # the wish of the first epoch is gone when the second ends
    assert run.current_epoch == 4 and callback.decision.epoch == 4.0


class Stops(L.Callback):
    def __init__(self) -> None:
        self.seen: list[bool] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.seen.append(trainer.should_stop)


def test_what_is_held_back_is_decided_upon_once_the_trainer_may_stop() -> None:
    callback = watcher(Scripted({0.5: 1.0}), snapshots=(0.5,))
    run = trainer(callback, min_epochs=2, max_epochs=4)
    run.fit(Digits())
    assert run.current_epoch == 2 and callback.decision.epoch == 0.5
    held = watcher(Scripted({0.5: 1.0}), snapshots=(0.5,))
    trainer(held, min_epochs=2, max_epochs=1).fit(Digits())
    assert not held.decision.stop and "min_epochs=2" in held.decision.reason


def test_min_steps_holds_back() -> None:
    callback = watcher()
    run = trainer(callback, min_steps=BATCHES + 1, max_epochs=4)
    run.fit(Digits(DOOMED))
    assert run.current_epoch == 2 and callback.decision.stop


def test_outside_of_its_domain_a_predictor_stops_nothing_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Wide(Digits):
        def __init__(self) -> None:
            super().__init__(DOOMED)
            self.net[0] = nn.Conv2d(1, 12, 5, padding=2)
            self.net[3] = nn.Conv2d(12, 16, 5, padding=2)

    callback = watcher()
    with caplog.at_level(logging.INFO), listening(caplog):
        run = trainer(callback)
    run.fit(Wide())
    assert run.callback_metrics["nndyn/in_domain"] == 0
    assert times(callback)[-1] == 3.0 and not callback.decision.stop
    assert not any(verdict.in_domain for verdict in callback.verdicts)
    assert caplog.text.count("the predictor does not know such runs (num_nodes") == 1
    assert "a predictor that knows them: nndyn fit --runs" in caplog.text


def test_too_few_good_runs_for_the_promise_stop_nothing_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    callback = watcher(threshold=None, max_false_stop_rate=0.01)
    with caplog.at_level(logging.INFO), listening(caplog):
        trainer(callback, max_epochs=1).fit(Digits(DOOMED))
    assert not callback.decision.stop
    assert caplog.text.count("good runs takes 99 of them") == 1


def test_a_predictor_that_never_gets_what_it_needs_says_so() -> None:
    callback = watcher(snapshots=(0.3, 2), strict=False)
    with pytest.warns(NNDynWarning, match="needs epoch 0"):
        trainer(callback).fit(Digits())
    with pytest.raises(PredictorError, match="not fitted"):
        trainer(watcher(Predictor(low_threshold=0.3))).fit(Digits())
