"""Small sweeps: perceptrons on digits whose learning rates make good and low runs."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
import torch
from callback_runs import trainer
from digits_runs import digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_nndyn import GraphDynamicsCallback

EPOCHS = 3


class Perceptron(L.LightningModule):
    """Logs its validation accuracy, its validation loss, and what it has been called for."""

    def __init__(self, lr: float, width: int = 8, seed: int = 0) -> None:
        super().__init__()
        self.lr, self.seed, self.calls = lr, seed, []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        out = self.net(batch[0])
        self.log("val_acc", (out.argmax(1) == batch[1]).float().mean(), sync_dist=True)
        self.log("val_loss", F.cross_entropy(out, batch[1]), sync_dist=True)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), lr=self.lr, momentum=0.9)

    def train_dataloader(self) -> Any:
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(digits()[0], 64, shuffle=True, generator=generator)

    def val_dataloader(self) -> Any:
        return DataLoader(digits()[1], 360)

    def teardown(self, stage: str) -> None:
        self.calls.append(f"teardown {stage}")


def suggested(trial: Any) -> Perceptron:
    """A run of the sweep."""
    lr = trial.suggest_float("lr", 1e-5, 3, log=True)
    return Perceptron(lr, trial.suggest_categorical("width", [8, 16]), trial.number)


def joined(trial: Any, predictor: Any = None, **settings: Any) -> GraphDynamicsCallback:
    """A callback that takes part in a sweep, keeps good runs, makes no audits, and hides no failure."""
    defaults = {"monitor": "val_acc", "strict": True, "verbose": False, "audit_share": 0.0, "keep": None}
    return GraphDynamicsCallback(predictor, trial=trial, **{**defaults, **settings})


def train(trial: Any, callback: GraphDynamicsCallback, metric: str = "val_acc", **settings: Any) -> float:
    """Trains a suggested run; its metric at the end."""
    run = trainer(callback, **{"max_epochs": EPOCHS, **settings})
    run.fit(suggested(trial))
    return float(run.callback_metrics[metric])
