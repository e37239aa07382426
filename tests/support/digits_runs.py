"""LeNet on scikit-learn's digits under a Lightning Trainer, and a predictor fitted to a few such runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import joblib
import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_nndyn.corpus.models import lenet5
from lightning_nndyn.graph.tracing.tracer import rolled_graph
from lightning_nndyn.predictor import LearningCurve, Predictor
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES, Snapshot, batch_of

BATCH = 48
GOOD, DOOMED = 0.05, 1e-6  # learning rates


P, R = ParamSpec("P"), TypeVar("R")


def shared(work: Callable[P, R]) -> Callable[P, R]:
    """Done once in a test session: other processes wait and read its result (a folder of conftest.py)."""
    folder = os.environ.get("NNDYN_TEST_CACHE")
    stored = joblib.Memory(folder, verbose=0).cache(work)
    turns = FileLock(Path(folder, work.__name__)) if folder else nullcontext()

    @cache
    def once(*args: P.args, **kwargs: P.kwargs) -> R:
        with turns:
            return cast("R", stored(*args, **kwargs))

    return cast("Callable[P, R]", once)


@cache
def digits() -> tuple[TensorDataset, TensorDataset]:
    """1437 images to train on and 360 to test."""
    found = find_spec("sklearn")  # whose import takes each process of the tests two seconds
    assert found is not None and found.origin is not None
    rows = np.loadtxt(Path(found.origin).with_name("datasets") / "data" / "digits.csv.gz", delimiter=",")
    x = (torch.tensor(rows[:, :-1], dtype=torch.float32).view(-1, 1, 8, 8) - 4.9) / 6
    y = torch.tensor(rows[:, -1].astype(int))
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


def run_of(lr: float, seed: int, epochs: int = 3) -> tuple[list[Snapshot], LearningCurve]:
    """A run without Lightning: its snapshots, its losses and its accuracies on the test images."""
    net = network(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    batches = loader(seed=seed)
    due = {batch_of(time, len(batches)): time for time in DEFAULT_TIMES}
    taker = SnapshotReader(rolled_graph(net, torch.zeros(1, 1, 8, 8)), per_layer=True)
    history, curve, accuracies = [taker.read(0.0)], {}, []
    for epoch in range(epochs):
        losses: list[float] = []
        for count, (x, y) in enumerate(batches, start=1):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            times = [due[count]] if epoch == 0 and count in due else []
            for time in times + [epoch + 1.0] * (count == len(batches)):
                history.append(taker.read(time))
                lately = losses[-ceil(len(batches) / 16) :]
                curve[time] = (sum(losses) / len(losses), sum(lately) / len(lately))
        x, y = digits()[1].tensors
        accuracies.append(float((net(x).argmax(1) == y).float().mean()))
    return history, LearningCurve(curve, accuracies, 10)


def history_of(lr: float, seed: int, epochs: int = 3) -> tuple[list[Snapshot], float]:
    """A run without Lightning: its snapshots and final accuracy."""
    history, curve = run_of(lr, seed, epochs)
    return history, curve.accuracies[-1]


@shared
def _runs() -> list[tuple[list[Snapshot], LearningCurve]]:
    """Half of them with learning rates that lead nowhere."""
    good, doomed = torch.linspace(0.02, 0.08, 12), torch.logspace(-6, -4, 12)
    return [run_of(lr, seed=100 + i) for i, lr in enumerate([*good.tolist(), *doomed.tolist()])]


@shared
def predictor(curves: bool = False) -> Predictor:
    """Fitted to real runs; with `curves` it has models that read losses and accuracies as well."""
    histories, logged = zip(*_runs(), strict=True)
    return Predictor(low_threshold=0.3).fit(
        histories,
        [curve.accuracies[-1] for curve in logged],
        corpus="24 runs on digits",
        curves=logged if curves else None,
    )
