"""A sweep with Ray Tune whose trials are paused, and go on if they stand among the best of their rung.

pip install 'lightning-nndyn[ray]'
python examples/ray_scheduler.py
"""

from typing import Any

import lightning as L
import torch
from ray import tune
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import lightning_nndyn as nd
from lightning_nndyn.integrations.ray import GraphDynamicsScheduler, RayMember


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
    """One trial, or what is left of one that was paused; the scheduler decides, so the callback observes."""
    L.seed_everything(0, verbose=False)
    images, labels = map(torch.tensor, load_digits(return_X_y=True))
    data = TensorDataset(images.float() / 8 - 1, labels)
    member = RayMember(config, metric="val_acc", mode="max", checkpoints=True)
    callback = nd.GraphDynamicsCallback(monitor="val_acc", trial=member, action="observe")
    trainer = L.Trainer(max_epochs=4, callbacks=[callback], accelerator="cpu", logger=False)
    training = DataLoader(Subset(data, range(1400)), 64, shuffle=True)
    test = DataLoader(Subset(data, range(1400, 1797)), 397)
    trainer.fit(Digits(config["lr"]), training, test, ckpt_path=callback.ckpt_path)


search, scheduler = tune.search.BasicVariantGenerator(random_state=0), GraphDynamicsScheduler()
settings = tune.TuneConfig(search_alg=search, num_samples=12, scheduler=scheduler, reuse_actors=True)
tuner = tune.Tuner(train, param_space={"lr": tune.loguniform(1e-5, 1)}, tune_config=settings)
found = tuner.fit().get_dataframe()
print(found[["config/lr", "nndyn_epoch", "nndyn_value"]].sort_values("nndyn_epoch"))
