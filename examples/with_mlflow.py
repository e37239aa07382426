"""Two runs on MLflow: predictions, the decision and its reason as tags, and a figure of the predictions.

    pip install 'lightning-nndyn[loggers]'
    mlflow server --host 127.0.0.1 --port 5000
    MLFLOW_TRACKING_URI=http://127.0.0.1:5000 python examples/with_mlflow.py

`tags."nndyn/decision" = "stop"` in the search field finds the runs that were stopped.
"""

import os

import lightning as L
import torch
from lightning.pytorch.loggers import MLFlowLogger
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
    """Trains both."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    data = TensorDataset(images[:1437], torch.tensor(digits.target[:1437]))
    address = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    for learning_rate in (0.03, 0.00003):
        L.seed_everything(1)
        logger = MLFlowLogger("digits", f"learning rate {learning_rate:g}", address)
        callback = nd.GraphDynamicsCallback(predictor="lenet5-digits")
        trainer = L.Trainer(max_epochs=10, logger=logger, callbacks=[callback], accelerator="cpu")
        trainer.fit(Digits(learning_rate), DataLoader(data, batch_size=128, shuffle=True))
        run = logger.experiment.get_run(logger.run_id)
        print(f"{run.info.run_name}: {run.info.status}, {run.data.tags['nndyn/reason']}")


if __name__ == "__main__":
    main()
