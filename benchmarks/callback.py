"""What the callback costs: its time at an epoch's end, and over a whole epoch, as a share of the epoch.

    python benchmarks/callback.py

One thread on the CPU, the real Trainer, 50,000 random images of 32x32 in batches of 128. LeNet trains whole
epochs; a ResNet-32 epoch takes many minutes, so some of its batches are trained and the epoch's time is
computed from them.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections import Counter
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

import lightning_nndyn as nd

IMAGES, BATCH = 50_000, 128
BATCHES = -(-IMAGES // BATCH)


class Classifier(LightningModule):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.net = getattr(nd.models, name)()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


class Timed(nd.GraphDynamicsCallback):
    """The callback with a clock around each of its hooks."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if not name.startswith("on_") or not callable(value):
            return value

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            before = len(self.history)
            try:
                return value(*args, **kwargs)
            finally:
                kind = "reading" if len(self.history) > before else "idle"
                clock[kind] += time.perf_counter() - start
                counts[kind] += 1

        return timed


clock: Counter[str] = Counter()
counts: Counter[str] = Counter()


class Batches:
    """So many batches of the same random images: loading data costs nothing here."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._batch = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Any:
        return (self._batch for _ in range(self._count))


def measure(name: str, batches: int, epochs: int, table: Table) -> None:
    torch.manual_seed(0)
    clock.clear(), counts.clear()
    callback = Timed(predictor="lenet5-digits", verbose=False)
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[callback],
    )  # fmt: skip
    start = time.perf_counter()
    trainer.fit(Classifier(name), Batches(batches))
    batch = (time.perf_counter() - start - sum(clock.values())) / (batches * epochs)
    epoch = batch * BATCHES
    reading = clock["reading"] / counts["reading"]
    idle = clock["idle"] / (batches * epochs)
    table.add_row(
        name,
        f"{batch * 1e3:.1f}",
        f"{epoch:.0f}",
        f"{reading * 1e3:.1f}",
        f"{idle * 1e6:.0f}",
        f"{reading / epoch:.3%}",
        f"{(reading + idle * BATCHES) / epoch:.3%}",
    )


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    table = Table(title=f"One thread, torch {torch.__version__}, {IMAGES:,} images, batch {BATCH}")
    for column in (
        "network", "batch, ms", "epoch, s", "one reading, ms", "other hooks a batch, us",
        "epoch's end / epoch", "all hooks / epoch",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    measure("lenet5", BATCHES, 3, table)
    measure("resnet32", 16, 3, table)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
