"""Shadow mode: a sweep in which nothing is stopped, and a page about what would have been.

    python examples/shadow.py
    nndyn report shadow-runs --output shadow.html

Sweeps LeNet on scikit-learn's digits over learning rates and dropouts; nothing to download.
`python examples/shadow.py --runs 6 --epochs 4` is a smaller one.
"""

import argparse
import random

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

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
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", default="shadow-runs")
    options = parser.parse_args()
    digits = load_digits()
    images, labels = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1, torch.tensor(digits.target)
    train, test = TensorDataset(images[:1437], labels[:1437]), TensorDataset(images[1437:], labels[1437:])
    draw = random.Random(0)
    for seed in range(options.runs):
        L.seed_everything(seed, verbose=False)
        model = Digits(10 ** draw.uniform(-4.5, -0.7), draw.uniform(0, 0.8))
        watcher = nd.GraphDynamicsCallback("lenet5-digits", action="observe", monitor="val_accuracy", record=options.output)
        trainer = L.Trainer(max_epochs=options.epochs, callbacks=[watcher], accelerator="cpu", enable_progress_bar=False, logger=False, enable_checkpointing=False)
        trainer.fit(model, DataLoader(train, batch_size=128, shuffle=True), DataLoader(test, batch_size=360))


if __name__ == "__main__":
    main()
