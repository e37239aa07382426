"""What `nndyn sweep sweep.yaml` trains: LeNet on scikit-learn's digits."""

from typing import Any

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_nndyn as nd

EPOCHS = 12


class Digits(L.LightningModule):
    """An ordinary module."""

    def __init__(self, learning_rate: float, dropout: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.net = nd.models.lenet5(in_channels=1, image_size=8, dropout=dropout)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of a batch."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Logs the accuracy."""
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.9)


def train(params: dict[str, Any], callback: nd.GraphDynamicsCallback) -> float:
    """Trains one run; a run that is stopped ends inside `fit`."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    targets = torch.tensor(digits.target)
    training, validation = (
        TensorDataset(images[:1437], targets[:1437]),
        TensorDataset(images[1437:], targets[1437:]),
    )
    trainer = L.Trainer(
        max_epochs=EPOCHS, callbacks=[callback], accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    model = Digits(params["learning_rate"], params["dropout"])
    trainer.fit(
        model,
        DataLoader(training, batch_size=params["batch_size"], shuffle=True),
        DataLoader(validation, batch_size=512),
        ckpt_path=callback.ckpt_path,  # of a run that was paused
    )
    return float(trainer.callback_metrics["val_acc"])
