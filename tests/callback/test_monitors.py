"""Callbacks that monitor our values end no training for want of a verdict."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import BATCHES, Digits, Endless, Scripted, trainer, watcher
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.errors import NNDynWarning

ACCURACY, P_LOW = "nndyn/predicted_accuracy", "nndyn/p_low"


def monitors(folder: Path, **settings: Any) -> list[Any]:
    return [
        EarlyStopping(ACCURACY, mode="max", patience=1, **settings),
        EarlyStopping(P_LOW, patience=1, stopping_threshold=-1.0, divergence_threshold=2.0, **settings),
        ModelCheckpoint(folder / "a", monitor=ACCURACY, mode="max"),
        ModelCheckpoint(folder / "b", monitor=P_LOW, save_on_train_epoch_end=False),
    ]


class Unlimited(Digits):
    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(Endless(), batch_size=None)


class Fails(Scripted):
    def predict(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError


NO_VERDICT: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "data without length": (Unlimited, {"snapshots": (0.5, 9)}, {}),
    "validation within the epoch": (Digits, {"snapshots": (9,)}, {"val_check_interval": 10}),
    "a late first reading": (Digits, {"snapshots": (3, 4)}, {}),
    "no predictor": (Digits, {"given": None}, {}),
    "no such predictor": (Digits, {"given": "./missing.skops"}, {}),
    "a predictor that fails": (Digits, {"given": Fails}, {}),
}


@pytest.mark.filterwarnings("ignore:.*IterableDataset.*", "ignore:.*gives up.*", "ignore:.*no length.*")
@pytest.mark.parametrize("case", NO_VERDICT)
def test_without_a_verdict_training_goes_on(case: str, tmp_path: Path) -> None:
    kind, arguments, settings = NO_VERDICT[case]
    given = arguments.get("given", Scripted)
    given = given({}) if isinstance(given, type) else given
    callback = watcher(**{"strict": False, "action": "observe", **arguments, "given": given})
    stopper, other, saver, last = others = monitors(tmp_path)
    run = trainer(callback, *others, max_epochs=2, enable_checkpointing=True, **settings)
    run.fit(kind(validate=True))
    assert run.current_epoch == 2 and not run.should_stop and not callback.verdicts
    assert float(run.callback_metrics[ACCURACY]) == -math.inf == float(saver.best_model_score)
    assert float(run.callback_metrics[P_LOW]) == math.inf == float(last.best_model_score)
    assert stopper.wait_count == other.wait_count == 0 and "_should_skip_check" not in vars(stopper)


def test_a_verdict_counts_once_and_the_epochs_after_it_not_against_it(tmp_path: Path) -> None:
    """One verdict at epoch 1, one at 2 that is no gain, none afterwards."""
    callback = watcher(Scripted({1.0: 0.25, 2.0: 0.375}), snapshots=(1, 2), action="observe")
    patient = EarlyStopping(ACCURACY, mode="max", patience=2)
    saver = ModelCheckpoint(tmp_path, monitor=ACCURACY, mode="max", filename="{epoch}")
    run = trainer(callback, patient, saver, max_epochs=5, enable_checkpointing=True)
    run.fit(Digits())
    assert run.current_epoch == 5 and patient.wait_count == 1 and float(patient.best_score) == 0.75
    assert Path(saver.best_model_path).name == "epoch=0.ckpt"


def test_after_giving_up_nothing_is_counted(tmp_path: Path) -> None:
    class Moody(Scripted):
        def predict(self, history: Any, **_: Any) -> Any:
            if history[-1].epoch == 2:
                raise ZeroDivisionError
            return super().predict(history)

    stopper, *others = monitors(tmp_path)
    callback = watcher(Moody({}), strict=False, action="observe")
    run = trainer(callback, stopper, *others, max_epochs=5, enable_checkpointing=True)
    with pytest.warns(NNDynWarning, match="gives up"):
        run.fit(Digits(validate=True))
    assert run.current_epoch == 5 and stopper.wait_count == 0 and float(stopper.best_score) == 1.0


def test_a_resumed_run_shows_the_latest_verdict(tmp_path: Path) -> None:
    first = trainer(watcher(Scripted({1.0: 0.25}), snapshots=(1,), action="observe"), max_epochs=1)
    first.fit(Digits(validate=True))
    first.save_checkpoint(tmp_path / "run.ckpt")
    _, *others = monitors(tmp_path)
    again = watcher(Scripted({}), snapshots=(1,), action="observe")
    run = trainer(again, *others, max_epochs=3, enable_checkpointing=True)
    run.fit(Digits(validate=True), ckpt_path=tmp_path / "run.ckpt")
    assert run.current_epoch == 3 and float(run.callback_metrics[ACCURACY]) == 0.75


def test_a_scheduler_may_monitor_them() -> None:
    class Scheduled(Digits):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=9)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": ACCURACY}}

    run = trainer(watcher(None))
    run.fit(Scheduled())
    assert run.current_epoch == 3


class Prunes(L.Callback):
    """As tuners' callbacks do: it has nothing to say without a value."""

    monitor = ACCURACY


def test_what_nobody_needs_is_not_there_and_other_names_are_still_an_error() -> None:
    run = trainer(watcher(None), Prunes(), max_epochs=1)
    run.fit(Digits())
    assert not [name for name in run.callback_metrics if name.startswith("nndyn/")]
    misspelt = trainer(watcher(None), EarlyStopping("nndyn/predicted_acuracy"), max_epochs=1)
    with pytest.raises(RuntimeError, match="not available"):
        misspelt.fit(Digits())


@pytest.mark.parametrize("action", ["stop", "observe"])
def test_the_first_epochs_stop_is_not_mistaken_and_patience_still_ends_a_run(action: Any) -> None:
    callback = GraphDynamicsCallback(Scripted({}), action=action, strict=True)
    run = trainer(callback, EarlyStopping(ACCURACY, mode="max", patience=2), max_epochs=9)
    run.fit(Digits())
    assert run.current_epoch == 3 and run.global_step == 3 * BATCHES  # 100 % three times: two without a gain


def test_a_second_namespace_is_known_too() -> None:
    pl = pytest.importorskip("pytorch_lightning")
    from digits_runs import module_class

    stopper = pl.callbacks.EarlyStopping(ACCURACY, mode="max", patience=1)
    run = trainer(watcher(None), stopper, pl=pl, max_epochs=2)
    run.fit(module_class(pl)())
    assert run.current_epoch == 2 and isinstance(run, pl.Trainer) and L.Trainer is not pl.Trainer
