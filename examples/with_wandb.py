"""A run on Weights & Biases: predictions, the decision and its reason, and a figure of the predictions.

    pip install 'lightning-nndyn[loggers]'
    WANDB_MODE=offline python examples/with_wandb.py --learning_rate=0.00003

In a sweep it is the `program`: a run that is stopped ends with exit code 0, and its agent takes the next one.
"""

import argparse

import lightning as L
import torch
from lightning.pytorch.loggers import WandbLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_nndyn as nd


class Digits(L.LightningModule):
    """An ordinary module: nothing in here knows of the callback."""

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.net = nd.models.lenet5(in_channels=1, image_size=8)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of a batch."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum, as the predictor's corpus had it."""
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.9)


def main() -> None:
    """Trains one run of a sweep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning_rate", type=float, default=0.03)
    learning_rate = parser.parse_args().learning_rate
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    data = TensorDataset(images[:1437], torch.tensor(digits.target[:1437]))
    L.seed_everything(1)
    logger = WandbLogger(project="digits", config={"learning_rate": learning_rate})
    callback = nd.GraphDynamicsCallback(predictor="lenet5-digits")
    trainer = L.Trainer(max_epochs=10, logger=logger, callbacks=[callback], accelerator="cpu")
    trainer.fit(Digits(learning_rate), DataLoader(data, batch_size=128, shuffle=True))
    print(f"in the run's summary: {logger.experiment.summary['nndyn/reason']}")


if __name__ == "__main__":
    main()
