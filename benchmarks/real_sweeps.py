"""Three sweeps for real, under our default and under Optuna's pruners: the same trials in the same order.

Usage: python benchmarks/real_sweeps.py [--trials 24] [--epochs 12] [--seed 0] [--only transformer]
                                     [--rows results/real_sweeps.parquet]

A convolutional network, a perceptron with batch normalisation and a small transformer on scikit-learn's
digits, each in a search space of its own. It prints the epochs that each way trains, and the best accuracy
that it finds. Each trial begins from the same random state under every way. So the pruners, which see nothing
but the accuracies, are played on those of the trials that were trained to their ends; our default trains.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import optuna
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import lightning_nndyn as nd
from lightning_nndyn.evaluation.result_file import write_rows

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

DEFAULT = "keep=0.08 (the default)"

_PRUNERS: dict[str, Callable[[int], optuna.pruners.BasePruner]] = {
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


class _Curve(L.Callback):
    """Notes the epochs that are trained and the accuracy after each."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.epochs = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.epochs += 1 / trainer.num_training_batches

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.values.append(float(trainer.callback_metrics["val_acc"]))


@cache
def _data() -> tuple[TensorDataset, TensorDataset]:
    found = load_digits()
    images = torch.tensor(found.images).float()[:, None] / 8 - 1
    labels = torch.tensor(found.target)
    return TensorDataset(images[:1300], labels[:1300]), TensorDataset(images[1300:], labels[1300:])


def _params(kind: _Kind, trial: optuna.Trial) -> dict[str, Any]:
    return {
        "lr": trial.suggest_float("lr", *kind.rates, log=True),
        "optimizer": trial.suggest_categorical("optimizer", kind.optimizers),
        "width": trial.suggest_categorical("width", kind.widths),
        "batch_size": trial.suggest_categorical("batch_size", [16, 32, 64]),
        "schedule": trial.suggest_categorical("schedule", ["constant", "cosine"]),
    }


def _trained(kind: _Kind, arguments: argparse.Namespace, stops: bool) -> list[_Curve]:
    """The trials of a sweep, to their ends or stopped by default."""
    curves: list[_Curve] = []

    def objective(trial: optuna.Trial) -> float:
        params = _params(kind, trial)
        L.seed_everything(1000 * arguments.seed + trial.number, verbose=False)
        curves.append(_Curve())
        ours = [nd.GraphDynamicsCallback(monitor="val_acc", trial=trial, verbose=False)] if stops else []
        trainer = L.Trainer(
            max_epochs=arguments.epochs, callbacks=[curves[-1], *ours], accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        train, test = (
            DataLoader(part, size, shuffle=size < 400, drop_last=size < 400)
            for part, size in zip(_data(), (params["batch_size"], 500), strict=True)
        )
        trainer.fit(_Run(kind, params), train, test)
        return max(curves[-1].values, default=0.0)

    _study(arguments, optuna.pruners.NopPruner(), DEFAULT).optimize(objective, arguments.trials)
    return curves


def _played(curves: list[_Curve], arguments: argparse.Namespace, way: str) -> list[_Curve]:
    """The same trials as a pruner lets them train, from the accuracies of those that were trained."""
    seen: list[_Curve] = []

    def objective(trial: optuna.Trial) -> float:
        seen.append(_Curve())
        for epoch, value in enumerate(curves[trial.number].values, start=1):
            seen[-1].values.append(value)
            seen[-1].epochs = epoch
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return max(seen[-1].values)

    _study(arguments, _PRUNERS[way](arguments.epochs), way).optimize(objective, arguments.trials)
    return seen


def _study(arguments: argparse.Namespace, pruner: optuna.pruners.BasePruner, way: str) -> optuna.Study:
    return optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(arguments.seed),
        pruner=pruner,
        study_name=f"{way} {arguments.seed}",  # Hyperband draws brackets by it
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=KINDS, help="one sweep")
    parser.add_argument("--rows", type=Path, help="file to write what was measured to")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    whole, rows = arguments.trials * arguments.epochs, []
    for name in [arguments.only] if arguments.only else KINDS:
        kind = KINDS[name]
        print(f"{name}: {arguments.trials} trials of {arguments.epochs} epochs")
        whole_curves = _trained(kind, arguments, stops=False)
        ways = {
            "all to their ends": whole_curves,
            DEFAULT: _trained(kind, arguments, stops=True),
            **{way: _played(whole_curves, arguments, way) for way in _PRUNERS},
        }
        for way, curves in ways.items():
            share = sum(one.epochs for one in curves) / whole
            best = max(max(one.values, default=0.0) for one in curves)
            rows.append({"sweep": name, "way": way, "epochs": share, "best": best})
            print(f"  {way:28}{share:6.1%} of the epochs   best {best:.2%}", flush=True)
    if arguments.rows:
        write_rows(arguments.rows, rows, {"trials": arguments.trials, "epochs": arguments.epochs})


if __name__ == "__main__":
    main()
