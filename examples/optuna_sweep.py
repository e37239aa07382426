"""A sweep with Optuna that compares its runs with each other, and stops the hopeless ones.

    pip install 'lightning-nndyn[optuna]'
    python examples/optuna_sweep.py

No predictor is needed: each trial is compared with the earlier ones. Nothing is downloaded.
"""

import lightning as L
import optuna
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_nndyn as nd

IMAGES, LABELS = (torch.tensor(found) for found in load_digits(return_X_y=True))
DATA = TensorDataset(IMAGES.float() / 8 - 1, LABELS)


class Digits(L.LightningModule):
    """An ordinary module: nothing in it refers to the sweep."""

    def __init__(self, learning_rate: float, width: int) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.net = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of a batch."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Share of the images that are classified correctly."""
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.9)


def objective(trial: optuna.Trial) -> float:
    """Trains one run; `TrialPruned` comes out of `fit`."""
    L.seed_everything(trial.number, verbose=False)
    model = Digits(trial.suggest_float("learning_rate", 1e-5, 1, log=True), trial.suggest_int("width", 8, 32))
    callback = nd.GraphDynamicsCallback(monitor="val_acc", trial=trial)
    trainer = L.Trainer(max_epochs=4, callbacks=[callback], accelerator="cpu", enable_progress_bar=False)
    train, test = torch.utils.data.random_split(DATA, [1400, 397], torch.Generator().manual_seed(0))
    trainer.fit(model, DataLoader(train, 64, shuffle=True), DataLoader(test, 397))
    return float(trainer.callback_metrics["val_acc"])


study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
study.optimize(objective, n_trials=24)
for trial in study.get_trials(states=[optuna.trial.TrialState.PRUNED]):
    print(f"trial {trial.number} pruned: {trial.user_attrs['nndyn:reason']}")
print(f"best: {study.best_value:.3f} of {len(study.trials)} trials, {study.best_params}")
