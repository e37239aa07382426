"""A sweep with Ray Tune that learns from its own finished runs which of the next ones to stop.

    pip install 'lightning-nndyn[ray]'
    python examples/ray_sweep.py

No predictor is needed: each trial is compared with the earlier ones. Nothing is downloaded.
"""

from typing import Any

import lightning as L
import torch
from ray import tune
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_nndyn as nd
from lightning_nndyn.integrations.ray import RayMember, end_sweep


class Digits(L.LightningModule):
    """An ordinary module: nothing in it refers to the sweep."""

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of a batch."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Share of the images that are classified correctly."""
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.9)


def train(config: dict[str, Any]) -> None:
    """One trial; a run that is stopped ends as any other, and the member reports its metrics."""
    L.seed_everything(0, verbose=False)
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images).float() / 8 - 1, torch.tensor(labels))
    training, test = torch.utils.data.random_split(data, [1400, 397], torch.Generator().manual_seed(0))
    member = RayMember(config, metric="val_acc", mode="max")
    callback = nd.GraphDynamicsCallback(predictor=None, monitor="val_acc", trial=member)
    trainer = L.Trainer(max_epochs=4, callbacks=[callback], accelerator="cpu", logger=False)
    trainer.fit(Digits(config["lr"]), DataLoader(training, 64, shuffle=True), DataLoader(test, 397))


search = tune.search.BasicVariantGenerator(random_state=0)
settings = tune.TuneConfig(search_alg=search, num_samples=24, reuse_actors=True)
results = tune.Tuner(train, param_space={"lr": tune.loguniform(1e-5, 1)}, tune_config=settings).fit()
end_sweep(results.experiment_path.rpartition("/")[2])
print(results.get_dataframe()[["config/lr", "nndyn_verdict", "nndyn_epoch", "nndyn_value", "nndyn_reason"]])
