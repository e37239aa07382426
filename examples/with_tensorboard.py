"""Two runs in TensorBoard: predictions, the decision and its reason, and a figure of the predictions.

    pip install 'lightning-nndyn[tensorboard,plots]'
    python examples/with_tensorboard.py
    tensorboard --logdir lightning_logs

Needs nothing to download. The decision is under TEXT, the figure under IMAGES.
"""

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_nndyn as nd


class Digits(L.LightningModule):
    """An ordinary module that logs its validation accuracy."""

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


def main() -> None:
    """Trains both."""
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.images).float()[:, None] / 8 - 1, torch.tensor(digits.target))
    train, test = torch.utils.data.random_split(data, [1437, 360], torch.Generator().manual_seed(0))
    for learning_rate in (0.03, 0.00003):
        L.seed_everything(1)
        logger = TensorBoardLogger(".")
        callback = nd.GraphDynamicsCallback("lenet5-digits", monitor="val_accuracy")
        trainer = L.Trainer(max_epochs=10, logger=logger, callbacks=[callback], accelerator="cpu")
        trainer.fit(Digits(learning_rate), DataLoader(train, 128, shuffle=True), DataLoader(test, 360))
        print(f"{logger.log_dir}: {callback.decision.reason}")


if __name__ == "__main__":
    main()
