"""A run that goes on from a checkpoint is the run that was never interrupted."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import (
    BATCHES,
    ByEpoch,
    Digits,
    Interrupted,
    Pull,
    Scripted,
    outcome,
    times,
    trainer,
    watcher,
)
from digits_runs import DOOMED, digits, predictor
from torch.utils.data import DataLoader

from lightning_nndyn import (
    GraphDynamicsCallback,
    Predictor,
)
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES


class Resumable(Digits):
    """Each epoch's order of images depends on the epoch alone, as with a sampler's `set_epoch`."""

    def train_dataloader(self) -> Any:
        return DataLoader(digits()[0], 48, sampler=ByEpoch())


def interrupt(path: Path, batches: int, callback: Any, model: Any, **settings: Any) -> None:
    with pytest.raises(Interrupted):
        trainer(callback, Pull(path, batches), **settings).fit(model)


SCRIPTS: dict[str, dict[float, float]] = {
    "goes on": {},
    "stops later": {4.0: 1.0},
    "real": {},
}


@pytest.mark.parametrize("script", ["real", "goes on", "stops later"])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_run_resumed_at_an_epochs_end_is_the_unbroken_run(tmp_path: Path, script: str, epochs: int) -> None:
    def callback() -> GraphDynamicsCallback:
        return watcher() if script == "real" else watcher(Scripted(SCRIPTS[script]))

    unbroken = callback()
    run = trainer(unbroken, max_epochs=5)
    run.fit(Resumable())
    path = tmp_path / "run.ckpt"
    interrupt(path, epochs * BATCHES, callback(), Resumable(), max_epochs=5)
    torch.load(path, weights_only=True)
    resumed = callback()
    again = trainer(resumed, max_epochs=5)
    again.fit(Resumable(), ckpt_path=path)
    assert times(resumed) == times(unbroken)
    assert again.global_step == run.global_step and again.current_epoch == run.current_epoch
    assert resumed.decision.stop == unbroken.decision.stop == (script == "stops later")
    assert resumed.decision.epoch == unbroken.decision.epoch
    for found, wanted in zip(resumed.history, unbroken.history, strict=True):
        assert found.statistics == pytest.approx(wanted.statistics, rel=1e-5, abs=1e-6)
    for found, wanted in zip(resumed.verdicts, unbroken.verdicts, strict=True):
        assert (found.epoch, found.in_domain) == (wanted.epoch, wanted.in_domain)
        assert found.p_low == pytest.approx(wanted.p_low, abs=1e-4)


@pytest.mark.parametrize("batches", [1, 4, 10, BATCHES + 3])
def test_a_run_resumed_inside_an_epoch_takes_no_snapshot_twice(tmp_path: Path, batches: int) -> None:
    path, first, resumed = tmp_path / "run.ckpt", watcher(), watcher()
    interrupt(path, batches, first, Digits())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not resumable.*")
        trainer(resumed).fit(Digits(), ckpt_path=path)
    assert times(resumed) == [0.0, *DEFAULT_TIMES, 1.0, 2.0, 3.0]
    assert resumed.history[: len(first.history)] == first.history
    assert resumed.verdicts[: len(first.verdicts)] == first.verdicts
    assert [verdict.epoch for verdict in resumed.verdicts] == times(resumed)[1:]


@pytest.mark.parametrize("where", ["batch end", "validation end", "epoch end"])
def test_a_checkpoint_of_any_hook_knows_the_epochs_decision(tmp_path: Path, where: str) -> None:
    class Saver(L.Callback):
        def save(self, trainer: Any) -> None:
            if trainer.global_step == BATCHES and not trainer.sanity_checking:
                trainer.save_checkpoint(tmp_path / "run.ckpt")

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if where == "batch end":
                self.save(trainer)

        def on_validation_end(self, trainer: Any, *_: Any) -> None:
            if where == "validation end":
                self.save(trainer)

        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            if where == "epoch end":
                self.save(trainer)

    script = Scripted({1.0: 1.0})
    stopped, resumed = watcher(script), watcher(script)
    trainer(stopped, Saver()).fit(Digits(validate=True))
    assert times(stopped)[-1] == 1.0 and stopped.decision.stop
    again = trainer(resumed)
    again.fit(Digits(validate=True), ckpt_path=tmp_path / "run.ckpt")
    assert outcome(resumed) == outcome(stopped)
    assert again.global_step == BATCHES


def test_a_stopped_run_resumes_as_stopped_unless_it_is_only_observed(tmp_path: Path) -> None:
    path, first = tmp_path / "run.ckpt", watcher()
    run = trainer(first)
    run.fit(Digits(DOOMED))
    run.save_checkpoint(path)
    stopped, observed = watcher(), watcher(action="observe")
    run = trainer(stopped)
    run.fit(Digits(DOOMED), ckpt_path=path)
    assert run.global_step == 2 and outcome(stopped) == outcome(first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = trainer(observed)
        run.fit(Digits(DOOMED), ckpt_path=path)
    assert run.current_epoch == 3 and observed.decision == first.decision


def test_checkpoints_with_and_without_the_callback_are_exchangeable(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    interrupt(path, BATCHES, watcher(), Digits())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint.*")
        run = trainer()
        run.fit(Digits(), ckpt_path=path)
    assert run.current_epoch == 3
    run.save_checkpoint(path)
    late = watcher()
    with pytest.warns(NNDynWarning, match="no record of its beginning") as found:
        trainer(late, max_epochs=5).fit(Digits(DOOMED), ckpt_path=path)
    assert len([w for w in found if w.category is NNDynWarning]) == 1
    assert times(late) == [4.0, 5.0] and late.verdicts == [] and not late.decision.stop


def test_a_callback_forgets_the_run_before_where_a_checkpoint_has_no_record(tmp_path: Path) -> None:
    """As in a loop that goes on from one warmed-up checkpoint again and again, with one callback."""
    path = tmp_path / "warm.ckpt"
    warm = trainer(max_epochs=1)
    warm.fit(Digits())
    warm.save_checkpoint(path)
    callback = watcher(action="stop", record=tmp_path)
    first = trainer(callback)
    first.fit(Digits(DOOMED))
    assert callback.decision.stop and first.global_step < BATCHES
    again = trainer(callback)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint.*")
        with pytest.warns(NNDynWarning, match="no record of its beginning"):
            again.fit(Digits(), ckpt_path=path)
    assert again.current_epoch == 3 and not callback.decision.stop and times(callback) == [2.0, 3.0]
    assert len(list(tmp_path.glob("nndyn-*.json"))) == 2


def test_a_record_of_another_version_is_refused_by_name_and_forgotten_with_its_run(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    interrupt(path, BATCHES, watcher(), Digits())
    content = torch.load(path, weights_only=True)
    content["callbacks"][watcher().state_key]["version"] = 99
    torch.save(content, path)
    callback = watcher(strict=False)
    with pytest.warns(NNDynWarning, match="has version 99"):
        trainer(callback).fit(Digits(), ckpt_path=path)
    trainer(callback, max_epochs=1).fit(Digits())
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0]


def test_two_callbacks_in_one_trainer_keep_apart(tmp_path: Path) -> None:
    def pair() -> tuple[GraphDynamicsCallback, GraphDynamicsCallback]:
        return watcher(None, snapshots=(1, 2)), watcher(action="observe")

    path, (first, second) = tmp_path / "run.ckpt", pair()
    assert len({first.state_key, second.state_key, watcher(threshold=0.7).state_key}) == 3
    with pytest.raises(Interrupted):
        trainer(first, second, Pull(path, BATCHES)).fit(Digits())
    first, second = pair()
    trainer(first, second, max_epochs=2).fit(Digits(), ckpt_path=path)
    assert times(first) == [0.0, 1.0, 2.0]
    assert times(second) == [0.0, *DEFAULT_TIMES, 1.0, 2.0]


def test_a_predictor_has_the_same_name_in_another_process(tmp_path: Path) -> None:
    given = predictor()
    given.save(tmp_path / "digits")
    key = watcher(given).state_key
    assert watcher(Predictor.load(tmp_path / "digits")).state_key == key
    assert watcher(str(tmp_path / "digits")).state_key != key
    assert "0x" not in key
