"""Fits under `strategy="ddp"` where one of two processes may lack the callback, for test_participants.py."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from callback_runs import Digits
from digits_runs import BATCH, predictor

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.errors import NNDynWarning

FOLDER = Path(sys.argv[1])
FITTED = predictor()
RANK = int(os.environ["LOCAL_RANK"])


def ours(**settings: Any) -> GraphDynamicsCallback:
    return GraphDynamicsCallback(FITTED, action="observe", **settings)


def run(name: str, callbacks: list[GraphDynamicsCallback]) -> None:
    trainer = L.Trainer(
        max_epochs=2, limit_train_batches=16, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=callbacks, strategy="ddp",
        accelerator="cpu", devices=2,
    )  # fmt: skip
    model, error = Digits(batch_size=BATCH // 2), None
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            trainer.fit(model)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
    result = {
        "error": error,
        "warnings": [str(warning.message) for warning in found if warning.category is NNDynWarning],
        "weights": [float(parameter.double().sum()) for parameter in model.parameters()],
        "times": [snapshot.epoch for one in callbacks[:1] for snapshot in one.history],
    }
    (FOLDER / f"{name}.{RANK}.json").write_text(json.dumps(result))


def main() -> None:
    torch.set_num_threads(1)
    run("nobody", [])
    run("on the first", [ours()] if RANK == 0 else [])
    run("on the second", [ours()] if RANK == 1 else [])
    run("other times", [ours(snapshots=(1,) if RANK == 0 else (0.5, 1))])
    run("one of two", [ours(), ours(snapshots=(1, 2))][: 2 - RANK])
    run("on both", [ours(), ours(snapshots=(1, 2))])
    run("strict", [ours(strict=True)] if RANK == 0 else [])  # Lightning kills the other process


if __name__ == "__main__":
    main()
