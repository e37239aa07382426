"""LeNet on scikit-learn's digits, with the callback: one good learning rate, one that learns nothing.

    python examples/digits.py

Needs nothing to download. `tensorboard --logdir lightning_logs` shows the predictions.
"""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_nndyn as nd


class Digits(L.LightningModule):
    """An ordinary module: nothing in it refers to the callback."""

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
    """Trains both."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    data = TensorDataset(images[:1437], torch.tensor(digits.target[:1437]))
    for learning_rate in (0.03, 0.00003):
        L.seed_everything(1)
        callback = nd.GraphDynamicsCallback(predictor="lenet5-digits")
        trainer = L.Trainer(max_epochs=10, callbacks=[callback], accelerator="cpu", enable_progress_bar=False)
        trainer.fit(Digits(learning_rate), DataLoader(data, batch_size=128, shuffle=True))
        predicted = callback.verdicts[-1].predicted_accuracy
        outcome = "stopped" if callback.decision.stop else "finished"
        print(f"learning rate {learning_rate:g}: {outcome}, predicted final accuracy {predicted:.0%}")


if __name__ == "__main__":
    main()
