"""Runs under `strategy="ddp"` on two processes and writes what each of them saw, for test_callback_ddp.py."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from callback_runs import Digits, OnOneProcess
from digits_runs import BATCH, DOOMED, GOOD, predictor
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from processes import leave_group

from lightning_nndyn import GraphDynamicsCallback

FOLDER = Path(sys.argv[1])
FITTED, CURVES = predictor(), predictor(curves=True)


class Cutting(Digits):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 5 else None


class Apart(Digits):
    """Each process validates for itself, and tells nobody."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(validate=True, **settings)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_accuracy", 0.5 + 0.2 * self.global_rank + 0.1 * self.current_epoch)


class OnlyHere(GraphDynamicsCallback):
    """Finds no predictor on process 1."""

    def setup(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if trainer.global_rank == 1:
            self.predictor = "./not-on-this-machine"
        super().setup(trainer, *args, **kwargs)


def watcher(given: Any = FITTED, kind: Any = GraphDynamicsCallback, **settings: Any) -> Any:
    return kind(given, **{"threshold": 0.5, **settings})


def monitors(name: str) -> list[Any]:
    key = "nndyn/predicted_accuracy"
    return [
        ModelCheckpoint(FOLDER / name, monitor=key, mode="max", save_top_k=2),
        EarlyStopping(key, mode="max", patience=10, strict=False),
    ]


def run(name: str, callback: Any, *more: Any, kind: Any = Digits, lr: float = GOOD, **settings: Any) -> None:
    trainer = L.Trainer(
        **{"max_epochs": 2, "logger": False, "enable_checkpointing": bool(more), **settings},
        callbacks=[callback, *more],
        strategy="ddp",
        accelerator="gpu" if torch.cuda.device_count() > 1 else "cpu",
        devices=2,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    # As many images a step as in the predictor's runs: the two processes share them.
    model, error = kind(lr=lr, batch_size=BATCH // 2), None
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            trainer.fit(model)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
    result = {
        "steps": trainer.global_step,
        "record": callback.state_dict(),
        "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
        "saved": sorted(float(score) for score in more[0].best_k_models.values()) if more else [],
        "warnings": [str(warning.message) for warning in found],
        "weights": [float(parameter.double().sum()) for parameter in model.parameters()],
        "error": error,
        "losses": model.losses,
    }
    text = json.dumps(result, default=torch.Tensor.tolist)
    (FOLDER / f"{name}.{trainer.global_rank}.json").write_text(text)


def main() -> None:
    torch.set_num_threads(1)
    run("doomed", watcher(), lr=DOOMED)
    run("good", watcher(log_signature=True), *monitors("good"), logger=CSVLogger(FOLDER))
    run("cut short", watcher(snapshots=(1, 2), action="observe"), *monitors("cut short"), kind=Cutting)
    run("one stops", watcher(OnOneProcess(FITTED, {0.25: 1.0})))
    run("one stops at the end", watcher(OnOneProcess(FITTED, {1.0: 1.0})))
    run("one fails", watcher(OnOneProcess(FITTED, {0.25: None}), action="observe"), *monitors("one fails"))
    run("one has no predictor", watcher(kind=OnlyHere), *monitors("one has no predictor"))
    run(
        "curves", watcher(CURVES, monitor="val_accuracy", action="observe", record=FOLDER / "own"), kind=Apart
    )
    steps = {"snapshot_every_n_steps": 20, "monitor": "val_accuracy"}
    check = {"val_check_interval": 20, "check_val_every_n_epoch": None}
    run("by steps", watcher(CURVES, action="observe", **steps), *monitors("by steps"), kind=Apart, **check)
    run("one stops after a stretch", watcher(OnOneProcess(FITTED, {2.0: 1.0}), **steps), kind=Apart, **check)
    audit = watcher(CURVES, monitor="val_accuracy", audit_share=0.999_999, record=FOLDER / "audit")
    run("audited", audit, kind=Apart, lr=DOOMED, default_root_dir=FOLDER / "ledger")
    run("one fails, strict", watcher(OnOneProcess(FITTED, {0.25: None}), strict=True))


if __name__ == "__main__":
    main()
    leave_group()
