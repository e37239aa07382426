"""What the pages' blocks of Python find: a small network on a few digits, and what is named in the text."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from digits_runs import digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

import lightning_nndyn as nd

_QUIET = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)


class Digits(L.LightningModule):
    """Layers of 1, 4 and 10 nodes; it logs ``val_acc``."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Epochs of sixteen small batches."""
    train, test = digits()
    return DataLoader(Subset(train, range(128)), 8), DataLoader(Subset(test, range(64)), 64)


def train(params: dict[str, Any], callback: nd.GraphDynamicsCallback) -> float:
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(max_epochs=2, callbacks=[callback], accelerator="cpu", **_QUIET)
    trainer.fit(Digits(params["lr"]), *loaders())
    return float(trainer.callback_metrics.get("val_acc", 0.0))


def names() -> dict[str, Any]:
    """The names that pages use without defining them."""
    train_loader, val_loader = loaders()
    return {
        "__name__": "page",
        "L": L,
        "nd": nd,
        "torch": torch,
        "model": Digits(),
        "make_model": Digits,
        "images": torch.zeros(1, 1, 8, 8),
        "train_loader": train_loader,
        "val_loader": val_loader,
        "train": train,
        "candidates": [{"lr": lr} for lr in (1e-4, 1e-2, 0.1, 1.0)],
    }
