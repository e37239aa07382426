"""A LightningCLI whose YAML file has model, data and the callback.

In this folder, with the extra `cli-yaml`; the command line changes any of it:

    python cli.py fit --config cli.yaml --model.learning_rate=0.00003
    python cli.py fit --config cli.yaml --trainer.callbacks.init_args.max_false_stop_rate=0.1
"""

import lightning as L
import torch
from lightning.pytorch.cli import LightningCLI
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import lightning_nndyn as nd


class Digits(L.LightningModule):
    """LeNet, with nothing in it that knows of the callback."""

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.net = nd.models.lenet5(in_channels=1, image_size=8)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of a batch."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Accuracy on what is not trained on."""
        self.log("val_accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum, as the predictor's corpus had it."""
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.9)


class Images(L.LightningDataModule):
    """scikit-learn's digits, which need no download."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size, digits = batch_size, load_digits()
        images = torch.tensor(digits.images).float()[:, None] / 8 - 1
        self.data = TensorDataset(images, torch.tensor(digits.target))

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """1437 images."""
        return DataLoader(Subset(self.data, range(1437)), self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """The other 360."""
        return DataLoader(Subset(self.data, range(1437, 1797)), 360)


if __name__ == "__main__":
    LightningCLI(Digits, Images)
