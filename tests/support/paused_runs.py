"""A training whose end depends on all that a pause must keep: order, noise, momentum, schedule."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

BATCHES = 8


class Noisy(Dataset[Any]):
    """Two classes that a line separates; each point is moved by three generators of random numbers."""

    def __init__(self) -> None:
        self.points = torch.randn(16 * BATCHES, 2)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        point = self.points[index]
        noise = torch.randn(2) + float(np.random.normal()) + random.gauss(0, 1)
        return point + 0.1 * noise, int(point.sum() > 0)


class Line(L.LightningModule):
    """With dropout, momentum, and a learning rate that falls: each epoch, or when the loss does not."""

    def __init__(self, params: dict[str, Any], seen: list[tuple[int, int]]) -> None:
        super().__init__()
        self.params, self.seen = params, seen
        self.net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        self.seen.append((self.current_epoch, batch_idx))
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        out = self.net(batch[0])
        self.log("val_acc", (out.argmax(1) == batch[1]).float().mean())
        self.log("val_loss", nn.functional.cross_entropy(out, batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.params["rate"], momentum=0.9)
        if not self.params.get("plateau"):
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)]
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


def run(
    params: dict[str, Any], callback: Any, folder: Path | None = None, resumes: bool = True, **settings: Any
) -> tuple[float, str, list[tuple[int, int]]]:
    """Trains four epochs, on from the callback's checkpoint.

    Args:
        params: the learning rate; whether the data loader has a generator of its `own`, and whether the
            learning rate falls on a `plateau`.
        callback: of the run.
        folder: of the logs; None for none.
        resumes: whether it asks for the checkpoint.
        settings: of the Trainer.

    Returns:
        The final accuracy, a digest of the final weights, and epoch and index of each batch.
    """
    L.seed_everything(0, verbose=False)
    seen: list[tuple[int, int]] = []
    own = torch.Generator().manual_seed(1) if params.get("own") else None
    data = Noisy()
    loader = DataLoader(data, batch_size=16, shuffle=True, generator=own)
    logger = L.pytorch.loggers.CSVLogger(folder) if folder else False
    trainer = L.Trainer(
        max_epochs=4, callbacks=[callback], accelerator="cpu", logger=logger, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1, **settings,
    )  # fmt: skip
    model = Line(params, seen)
    ckpt_path = callback.ckpt_path if resumes else None
    trainer.fit(model, loader, DataLoader(data, batch_size=64), ckpt_path=ckpt_path)
    weights = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    digest = hashlib.sha256(weights.numpy().tobytes()).hexdigest()
    return float(trainer.callback_metrics.get("val_acc", 0.0)), digest, seen
