"""A hopeless run of two processes, in a log folder that knows good ones.

Usage: python earlier_runs_script.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import lightning.pytorch as L
from lightning.pytorch.loggers import CSVLogger
from sweep_runs import Perceptron

from lightning_nndyn import GraphDynamicsCallback

if __name__ == "__main__":
    run = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=CSVLogger(sys.argv[1]),
        callbacks=[GraphDynamicsCallback(monitor="val_acc", strict=True)],
        max_epochs=4,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    model = Perceptron(1e-6)
    # Each process has half of the batches: in an epoch there are half as many as alone.
    run.fit(model)
    print(f"{Path(sys.argv[0]).name}: ended after {run.current_epoch} epochs", flush=True)
