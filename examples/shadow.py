"""Shadow mode: a sweep in which nothing is stopped, and a page about what would have been.

    python examples/shadow.py
    nndyn report shadow-runs --output shadow.html

Sweeps LeNet on scikit-learn's digits: 32 runs of 20 epochs; `python examples/shadow.py 6 4`: 6 of 4.
"""

import random
import sys

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import lightning_nndyn as nd


class Digits(L.LightningModule):
    """An ordinary module that logs its validation accuracy."""

    def __init__(self, learning_rate: float, dropout: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.net = nd.models.lenet5(10, dropout, in_channels=1, image_size=8)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of a batch."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Accuracy on what is not trained on."""
        self.log("val_accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum, as the predictor's corpus had it."""
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.9)


def main() -> None:
    """Trains all."""
    runs, epochs = map(int, sys.argv[1:] or (32, 20))
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.images).float()[:, None] / 8 - 1, torch.tensor(digits.target))
    train, test, draw = Subset(data, range(1437)), Subset(data, range(1437, len(data))), random.Random(0)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    for seed in range(runs):
        L.seed_everything(seed, verbose=False)
        model = Digits(10 ** draw.uniform(-4.5, -0.7), draw.uniform(0, 0.8))
        settings = {"action": "observe", "record": "shadow-runs", "earlier_runs": False}
        watcher = nd.GraphDynamicsCallback("lenet5-digits", monitor="val_accuracy", **settings)
        trainer = L.Trainer(max_epochs=epochs, callbacks=[watcher], accelerator="cpu", **quiet)
        trainer.fit(model, DataLoader(train, batch_size=128, shuffle=True), DataLoader(test, batch_size=360))


if __name__ == "__main__":
    main()
