"""LeNet on scikit-learn's digits under a Lightning Trainer, and a predictor fitted to a few such runs."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_nndyn.models import lenet5
from lightning_nndyn.predictor import Predictor
from lightning_nndyn.signature import DEFAULT_TIMES, Snapshot, SnapshotTaker, batch_of
from lightning_nndyn.tracing import rolled_graph

BATCH = 48
GOOD, DOOMED = 0.05, 1e-6  # learning rates


@cache
def digits() -> tuple[TensorDataset, TensorDataset]:
    """1437 images to train on and 360 to test."""
    images, labels = load_digits(return_X_y=True)
    x = (torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) - 4.9) / 6
    y = torch.tensor(labels)
    return TensorDataset(x[:1437], y[:1437]), TensorDataset(x[1437:], y[1437:])


def loader(train: bool = True, seed: int = 0, batch_size: int = BATCH) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(digits()[not train], batch_size, shuffle=train, generator=generator)


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return lenet5(in_channels=1, image_size=8)


@cache
def module_class(pl: Any) -> Any:
    """The LightningModule, for one of Lightning's two namespaces."""

    class Digits(pl.LightningModule):
        def __init__(
            self, lr: float = GOOD, seed: int = 0, validate: bool = False, batch_size: int = BATCH
        ) -> None:
            super().__init__()
            self.lr, self.seed, self.validate, self.batch_size = lr, seed, validate, batch_size
            self.net = network(seed)
            self.losses: list[float] = []

        def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.losses.append(loss.item())
            return loss

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            return self.loss(batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.net.parameters(), lr=self.lr, momentum=0.9)

        def train_dataloader(self) -> DataLoader[Any]:
            return loader(seed=self.seed, batch_size=self.batch_size)

        def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
            accuracy = (self.net(batch[0]).argmax(1) == batch[1]).float().mean()
            self.log("val_accuracy", accuracy, sync_dist=True)

        def val_dataloader(self) -> Any:
            return loader(train=False) if self.validate else []

    return Digits


def history_of(lr: float, seed: int, epochs: int = 3) -> tuple[list[Snapshot], float]:
    """A run without Lightning: its snapshots and final accuracy."""
    net = network(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    batches = loader(seed=seed)
    due = {batch_of(time, len(batches)): time for time in DEFAULT_TIMES}
    taker = SnapshotTaker(rolled_graph(net, torch.zeros(1, 1, 8, 8)))
    history = [taker.take(0.0)]
    for epoch in range(epochs):
        for count, (x, y) in enumerate(batches, start=1):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
            if epoch == 0 and count in due:
                history.append(taker.take(due[count]))
        history.append(taker.take(epoch + 1.0))
    x, y = digits()[1].tensors
    return history, float((net(x).argmax(1) == y).float().mean())


@cache
def predictor() -> Predictor:
    """Fitted to real runs, half of them with learning rates that lead nowhere."""
    good, doomed = torch.linspace(0.02, 0.08, 12), torch.logspace(-6, -4, 12)
    runs = [history_of(lr, seed=100 + i) for i, lr in enumerate([*good.tolist(), *doomed.tolist()])]
    histories, accuracies = zip(*runs, strict=True)
    return Predictor(low_threshold=0.3).fit(histories, accuracies, corpus="24 runs on digits")
