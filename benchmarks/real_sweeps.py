"""Three sweeps for real, under our default and under Optuna's pruners: the same trials in the same order.

Usage: python benchmarks/real_sweeps.py [--trials 24] [--epochs 12] [--seed 0]

A convolutional network, a perceptron with batch normalisation and a small transformer on scikit-learn's
digits, each in a search space of its own. It prints the epochs that each way trains, and the best accuracy
that it finds.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import lightning as L
import optuna
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import lightning_nndyn as nd

_OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}


class _Transformer(nn.Module):
    """Attention over the eight rows of an image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rows, self.head = nn.Linear(8, width), nn.Linear(width, 10)
        self.place = nn.Parameter(torch.zeros(8, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.rows(x[:, 0]) + self.place).mean(1))


def _cnn(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.ReLU(), nn.Conv2d(width, 2 * width, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(8 * width, 10),
    )  # fmt: skip


def _perceptron(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 4 * width), nn.BatchNorm1d(4 * width), nn.ReLU(),
        nn.Linear(4 * width, 4 * width), nn.ReLU(), nn.Linear(4 * width, 10),
    )  # fmt: skip


@dataclass(frozen=True)
class _Kind:
    """A network and its search space."""

    network: Callable[[int], nn.Module]
    rates: tuple[float, float]
    optimizers: tuple[str, ...]
    widths: tuple[int, ...]


KINDS = {
    "convolutional network": _Kind(_cnn, (1e-5, 1.0), ("sgd",), (4, 8)),
    "perceptron": _Kind(_perceptron, (1e-5, 0.3), ("sgd", "adam", "rmsprop"), (8, 16)),
    "transformer": _Kind(_Transformer, (1e-4, 0.03), ("adam",), (16, 32)),
}

_PRUNERS: dict[str, Callable[[int], optuna.pruners.BasePruner | None]] = {
    "all to their ends": lambda epochs: optuna.pruners.NopPruner(),
    "keep=0.08 (the default)": lambda epochs: None,
    "MedianPruner": lambda epochs: optuna.pruners.MedianPruner(),
    "SuccessiveHalvingPruner": lambda epochs: optuna.pruners.SuccessiveHalvingPruner(min_resource=1),
    "HyperbandPruner": lambda epochs: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs),
}


class _Run(L.LightningModule):
    def __init__(self, kind: _Kind, params: dict[str, Any]) -> None:
        super().__init__()
        self.params, self.net = params, kind.network(params["width"])

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = _OPTIMIZERS[self.params["optimizer"]](self.parameters(), lr=self.params["lr"])
        if self.params["schedule"] == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Report(L.Callback):
    """Reports to Optuna after each epoch, as its own callback does; notes the epochs and the best value."""

    def __init__(self, trial: optuna.Trial, prunes: bool) -> None:
        self.trial, self.prunes, self.best, self.epochs = trial, prunes, 0.0, 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.epochs += 1 / trainer.num_training_batches

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics["val_acc"])
        self.best = max(self.best, value)
        if self.prunes:
            self.trial.report(value, trainer.current_epoch + 1)
            if self.trial.should_prune():
                trainer.should_stop = True


@cache
def _data() -> tuple[TensorDataset, TensorDataset]:
    found = load_digits()
    images = torch.tensor(found.images).float()[:, None] / 8 - 1
    labels = torch.tensor(found.target)
    return TensorDataset(images[:1300], labels[:1300]), TensorDataset(images[1300:], labels[1300:])


def _sweep(kind: _Kind, way: str, trials: int, epochs: int, seed: int) -> tuple[float, float]:
    """Epochs that were trained, and the best accuracy that was seen."""
    pruner = _PRUNERS[way](epochs)
    reports: list[_Report] = []

    def objective(trial: optuna.Trial) -> float:
        params = {
            "lr": trial.suggest_float("lr", *kind.rates, log=True),
            "optimizer": trial.suggest_categorical("optimizer", kind.optimizers),
            "width": trial.suggest_categorical("width", kind.widths),
            "batch_size": trial.suggest_categorical("batch_size", [16, 32, 64]),
            "schedule": trial.suggest_categorical("schedule", ["constant", "cosine"]),
        }
        L.seed_everything(1000 * seed + trial.number, verbose=False)
        reports.append(_Report(trial, pruner is not None))
        ours = (
            [nd.GraphDynamicsCallback(monitor="val_acc", trial=trial, verbose=False)]
            if pruner is None
            else []
        )
        trainer = L.Trainer(
            max_epochs=epochs, callbacks=[reports[-1], *ours], accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        train, test = (
            DataLoader(part, size, shuffle=size < 400, drop_last=size < 400)
            for part, size in zip(_data(), (params["batch_size"], 500), strict=True)
        )
        trainer.fit(_Run(kind, params), train, test)
        return reports[-1].best

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed),
        pruner=pruner or optuna.pruners.NopPruner(),
        study_name=f"{way} {seed}",  # Hyperband draws brackets by it
    )
    study.optimize(objective, n_trials=trials)
    return sum(report.epochs for report in reports), max(report.best for report in reports)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    whole = arguments.trials * arguments.epochs
    for name, kind in KINDS.items():
        print(f"{name}: {arguments.trials} trials of {arguments.epochs} epochs")
        for way in _PRUNERS:
            epochs, best = _sweep(kind, way, arguments.trials, arguments.epochs, arguments.seed)
            print(f"  {way:28}{epochs:7.1f} epochs ({epochs / whole:4.0%})   best {best:.2%}", flush=True)


if __name__ == "__main__":
    main()
