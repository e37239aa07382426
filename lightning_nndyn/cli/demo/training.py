"""Trains one configuration with Lightning's Trainer, in the same way as the corpus was trained."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_nndyn.callback import GraphDynamicsCallback
from lightning_nndyn.corpus.models import lenet5
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.training.batches import BatchLoader
from lightning_nndyn.corpus.training.data import ImageData
from lightning_nndyn.corpus.training.environment import seeded


class DigitsLeNet(LightningModule):
    """LeNet on 8x8 digits, as a user would write it, without any reference to the callback."""

    def __init__(self, learning_rate: float, dropout: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = lenet5(10, dropout, in_channels=1, image_size=8)
        self.learning_rate = learning_rate

    def forward(self, images: Tensor) -> Tensor:
        """Maps images [N, 1, 8, 8] to logits [N, 10]."""
        return self.net(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of a batch."""
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Accuracy on the test split."""
        accuracy = (self(batch[0]).argmax(1) == batch[1]).double().mean()
        self.log("val_accuracy", accuracy, batch_size=len(batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum, the paper's."""
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.9)


@dataclass(frozen=True)
class TrainingResult:
    """Result of one run of the Trainer.

    Attributes:
        accuracies: test accuracy after each finished epoch.
        epochs: that were trained; a fraction if it was stopped inside an epoch.
        callback: None in the second pass.
    """

    accuracies: list[float]
    epochs: float
    callback: GraphDynamicsCallback | None

    @property
    def stopped(self) -> bool:
        """Whether the callback has stopped it."""
        return self.callback is not None and self.callback.decision.stop


class _AccuracyRecorder(Callback):
    """Records the accuracy of each epoch, and updates the progress bar after each batch."""

    def __init__(self, on_batch: Callable[[Trainer], None]) -> None:
        self.accuracies: list[float] = []
        self._on_batch = on_batch

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._on_batch(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run that is stopped inside an epoch is not tested at its end.
        if trainer.is_last_batch:
            self.accuracies.append(float(trainer.callback_metrics["val_accuracy"]))


def train(
    config: RunConfig,
    data: ImageData,
    callback: GraphDynamicsCallback | None,
    logs: Path | None,
    on_batch: Callable[[Trainer], None],
) -> TrainingResult:
    """Train one configuration from its seed.

    Args:
        config: of the run.
        data: to train and test on.
        callback: may stop the run; None trains to the end.
        logs: folder for TensorBoard and CSV logs; None writes none.
        on_batch: called after each batch.
    """
    recorder = _AccuracyRecorder(on_batch)
    with _quiet(), seeded(config.seed):
        model = DigitsLeNet(config.learning_rate, config.dropout)
        batches = BatchLoader(config, data)
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=config.epochs,
            logger=[] if logs is None else _loggers(logs, f"run-{config.index:02d}"),
            callbacks=[recorder] if callback is None else [callback, recorder],
            log_every_n_steps=len(batches),
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        test = TensorDataset(data.normalise(data.test_images), data.test_labels)
        trainer.fit(model, batches, DataLoader(test, batch_size=len(test)))
    return TrainingResult(recorder.accuracies, trainer.global_step / len(batches), callback)


def has_tensorboard() -> bool:
    """Whether Lightning's TensorBoard logger can be used."""
    return any(find_spec(name) is not None for name in ("tensorboard", "tensorboardX"))


def _loggers(folder: Path, name: str) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(folder / "csv", name=name, version="")]
    if has_tensorboard():
        loggers.append(TensorBoardLogger(folder / "tensorboard", name=name, version=""))
    return loggers


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's hints, which it would print for each run between the lines of the progress."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        logger.setLevel(level)
