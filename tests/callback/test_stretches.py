"""Stretches of steps: when their verdicts come, and the validation that they wait for."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
from callback_runs import BATCHES, Digits, Scripted, times, trainer, watcher
from digits_runs import DOOMED
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from stretch_runs import Long, by_steps, endless

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.callback import session
from lightning_nndyn.callback.record_file import read_record
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES

STRETCH = [0.0, *DEFAULT_TIMES, 1.0]


@pytest.mark.filterwarnings("ignore:.*IterableDataset.*")
@pytest.mark.parametrize(
    ("time", "steps"), [(0.25, math.ceil(BATCHES / 4)), (1.0, BATCHES), (2.0, 2 * BATCHES)]
)
@pytest.mark.parametrize("monitor", [None, "val_accuracy"])
def test_a_decision_in_the_middle_of_an_epoch_ends_the_run_at_once(
    tmp_path: Path, time: float, steps: int, monitor: str | None
) -> None:
    callback = watcher(
        Scripted({time: 1.0}), snapshot_every_n_steps=BATCHES, monitor=monitor, record=tmp_path
    )
    run = endless(callback, max_steps=-1, max_epochs=1)
    run.fit(Long())
    assert run.global_step == steps
    (file,) = tmp_path.iterdir()
    content = read_record(file)
    assert content["status"] == "stopped" and content["decision"]["stop"]
    assert content["decision"]["epoch"] == time == times(callback)[-1]


def test_a_run_stopped_in_its_only_epoch_has_not_finished(tmp_path: Path) -> None:
    trainer(watcher(record=tmp_path), max_epochs=1).fit(Digits(DOOMED))
    (file,) = tmp_path.iterdir()
    assert read_record(file)["status"] == "stopped"


def test_what_min_steps_holds_back_is_decided_upon_after_the_next_stretch() -> None:
    callback = watcher(Scripted({0.5: 1.0}), snapshots=(0.5,), snapshot_every_n_steps=10)
    run = trainer(callback, max_epochs=1, min_steps=15, min_epochs=0)
    run.fit(Digits())
    assert run.global_step == 20 and callback.decision.epoch == 0.5


def test_min_epochs_counts_the_trainers_epochs() -> None:
    callback = watcher(Scripted({1.0: 1.0}), snapshots=(1,), snapshot_every_n_steps=10)
    run = trainer(callback, max_epochs=4, min_epochs=2)
    run.fit(Digits())
    assert run.current_epoch == 2 and run.global_step == 2 * BATCHES and callback.decision.epoch == 1.0


def test_a_stretch_that_ends_with_an_epoch_is_stopped_after_its_validation() -> None:
    callback = watcher(Scripted({1.0: 1.0}), snapshot_every_n_steps=BATCHES, monitor="val_accuracy")
    run = trainer(callback)
    run.fit(Digits(validate=True))
    assert run.global_step == BATCHES and len(callback.session.record.accuracies) == 1
    assert callback.decision.epoch == 1.0


class Seen(L.Callback):
    """What those who look after validation find."""

    def __init__(self, callback: GraphDynamicsCallback) -> None:
        self.callback, self.found = callback, []

    def on_validation_end(self, trainer: Any, *_: Any) -> None:
        if not trainer.sanity_checking:
            verdict = self.callback.verdicts[-1]
            self.found.append((trainer.global_step, verdict.epoch))
            logged = float(trainer.callback_metrics["nndyn/predicted_accuracy"])
            assert logged == pytest.approx(verdict.predicted_accuracy, abs=1e-6)


def test_a_verdict_waits_for_the_validation_that_follows_and_is_there_for_those_who_monitor(
    tmp_path: Path,
) -> None:
    callback = by_steps()
    seen = Seen(callback)
    saver = ModelCheckpoint(tmp_path, monitor="nndyn/predicted_accuracy", mode="max", save_top_k=-1)
    stopper = EarlyStopping("nndyn/p_low", mode="min", patience=100)
    run = endless(callback, seen, saver, stopper, enable_checkpointing=True)
    run.fit(Long(length=3 * BATCHES))
    assert seen.found == [(BATCHES, 1.0), (2 * BATCHES, 2.0), (3 * BATCHES, 3.0)]
    predicted = {verdict.predicted_accuracy for verdict in callback.verdicts if verdict.epoch >= 1}
    assert sorted(map(float, saver.best_k_models.values())) == pytest.approx(sorted(predicted), abs=1e-6)


def test_a_stretch_without_validation_is_a_gap_and_judged_when_the_next_one_has_come() -> None:
    callback = by_steps()
    with warnings.catch_warnings():
        warnings.simplefilter("error", NNDynWarning)
        endless(callback, steps=4 * BATCHES, val_check_interval=2 * BATCHES).fit(Long(length=4 * BATCHES))
    assert [math.isnan(accuracy) for accuracy in callback.session.record.accuracies] == [
        True,
        False,
        True,
        False,
    ]
    # The predictor knows three epochs.
    assert [verdict.epoch for verdict in callback.verdicts] == [*DEFAULT_TIMES, 2.0, 3.0]


def test_a_validation_inside_a_stretch_is_that_stretchs() -> None:
    callback = by_steps()
    endless(callback, steps=2 * BATCHES, val_check_interval=20).fit(Long(length=2 * BATCHES))
    # After steps 20, 40 and 60: the second belongs to the second stretch, as does the third.
    assert [verdict.epoch for verdict in callback.verdicts] == [*DEFAULT_TIMES, 1.0, 2.0]
    assert len(callback.session.record.accuracies) == 2


@pytest.mark.filterwarnings("ignore:.*IterableDataset.*")
def test_where_validation_does_not_come_it_is_said_once_with_the_way_out() -> None:
    callback = by_steps()
    with pytest.warns(NNDynWarning, match=r"not logged by validation.*val_check_interval") as found:
        endless(callback, val_check_interval=None, check_val_every_n_epoch=1).fit(Long())
    assert len([w for w in found if w.category is NNDynWarning]) == 1
    assert times(callback)[-1] == 3.0 and callback.verdicts[-1].epoch == 0.5


@pytest.mark.parametrize("expected", [False, True])
def test_an_empty_validation_is_not_waited_for(expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should one be expected all the same, the next batch shows that it has not come."""
    callback, ahead = watcher(monitor="val_accuracy", snapshot_every_n_steps=10), Ahead()
    if expected:
        monkeypatch.setattr(session, "validation_follows", lambda _: True)
    model = Long(length=25, validate=False)
    with pytest.warns(NNDynWarning, match="not logged by validation"):
        endless(callback, ahead, steps=25, val_check_interval=10).fit(model)
    assert times(callback) == [*STRETCH, 2.0] and callback.verdicts[-1].epoch == 2.0
    assert ahead.known[10] == (0.5 if expected else 1.0) and ahead.known[11] == 1.0


class Ahead(L.Callback):
    """Which verdict is known at the end of each batch."""

    def __init__(self) -> None:
        self.known: dict[int, float] = {}

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        ours = trainer.callbacks[0]
        self.known[trainer.global_step] = ours.verdicts[-1].epoch if ours.verdicts else 0.0


@pytest.mark.filterwarnings("ignore:.*IterableDataset.*")
def test_without_a_length_and_without_steps_the_way_out_is_named() -> None:
    with pytest.warns(NNDynWarning, match="no length.*snapshot_every_n_steps=N"):
        trainer(watcher(None), max_epochs=-1, max_steps=3).fit(Long())
