"""A training that takes milliseconds, for races; the number of steps of each is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Line(L.LightningModule):
    """Two classes that a line separates; four batches an epoch."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        out = self.net(batch[0])
        self.log("val_acc", (out.argmax(1) == batch[1]).float().mean())
        self.log("val_loss", nn.functional.cross_entropy(out, batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


steps: list[tuple[float, int]] = []


def train(params: dict[str, Any], callback: Any, **settings: Any) -> float:
    """Trains four epochs; how many steps it were goes to `steps`."""
    L.seed_everything(0, verbose=False)
    points = torch.randn(64, 2)
    data = DataLoader(TensorDataset(points, (points.sum(1) > 0).long()), batch_size=16)
    trainer = L.Trainer(
        max_epochs=4, callbacks=[callback], accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    trainer.fit(Line(params["rate"]), data, data)
    steps.append((params["rate"], trainer.global_step))
    return float(trainer.callback_metrics["val_acc"])
