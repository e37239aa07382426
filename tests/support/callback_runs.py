"""What tests of the callback share: quiet Trainers and sudden ends, strict callbacks, obedient predictors."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from digits_runs import digits, loader, module_class, predictor
from torch import nn
from torch.utils.data import IterableDataset

from lightning_nndyn import GraphDynamicsCallback, Predictor, Verdict

Digits = module_class(L)
BATCHES = len(loader())

_FITTED = "fitted"


def trainer(*callbacks: Any, pl: Any = L, **settings: Any) -> Any:
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    defaults = {"max_epochs": 3, "accelerator": "cpu", "callbacks": list(callbacks), **quiet}
    return pl.Trainer(**{**defaults, **settings})


class Interrupted(Exception):
    pass


class Pull(L.Callback):
    """Pulls the plug after so many batches, having saved a checkpoint."""

    def __init__(self, path: Path, batches: int) -> None:
        self.path, self.batches = path, batches

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.batches and self.batches % BATCHES:
            self.pull(trainer)

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.batches:
            self.pull(trainer)

    def pull(self, trainer: Any) -> None:
        trainer.save_checkpoint(self.path)
        raise Interrupted


class Endless(IterableDataset[Any]):
    """Digits without a length."""

    def __iter__(self) -> Iterator[Any]:
        return iter(loader())


def watcher(given: Any = _FITTED, **settings: Any) -> GraphDynamicsCallback:
    """A callback that stops at p_low above one half, and hides no failure."""
    given = predictor() if given == _FITTED else given
    return GraphDynamicsCallback(given, **{"threshold": 0.5, "strict": True, **settings})


def curve_reader(**settings: Any) -> GraphDynamicsCallback:
    """A watcher that judges by the curve as well."""
    return watcher(predictor(curves=True), **{"monitor": "val_accuracy", "action": "observe", **settings})


def times(callback: GraphDynamicsCallback) -> list[float]:
    return [snapshot.epoch for snapshot in callback.history]


def outcome(callback: GraphDynamicsCallback) -> tuple[Any, ...]:
    return times(callback), callback.verdicts, callback.decision


def hooks(model: nn.Module) -> int:
    """Forward hooks of the model's modules, and function modes that are on."""
    own = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    return own + torch._C._len_torch_function_stack()


def rows(folder: Path) -> list[dict[str, str]]:
    """What a CSVLogger has written."""
    (file,) = folder.rglob("metrics.csv")
    with file.open() as lines:
        return list(csv.DictReader(lines))


class Scripted(Predictor):
    """Gives the probabilities that the test wants, by time; everything else is the real predictor's."""

    def __init__(self, p_low: dict[float, float]) -> None:
        self.__dict__.update(predictor().__dict__)
        self.p_low = p_low

    def predict(self, history: Any, **_: Any) -> Verdict:
        epoch = history[-1].epoch
        p_low = self.p_low.get(epoch, 0.0)
        return Verdict(1 - p_low, p_low, epoch, True)


class OnOneProcess(Predictor):
    """Gives on process 1 the probabilities that the test wants, by time, None being a failure.

    Everything else, and all on the other processes, is the fitted predictor's.
    """

    def __init__(self, fitted: Predictor, p_low: dict[float, float | None]) -> None:
        self.__dict__.update(fitted.__dict__)
        self.p_low = p_low

    def predict(self, history: Any, **_: Any) -> Verdict:
        verdict, epoch = super().predict(history), history[-1].epoch
        if torch.distributed.get_rank() != 1 or epoch not in self.p_low:
            return verdict
        p_low = self.p_low[epoch]
        if p_low is None:
            raise ZeroDivisionError("only on process 1")
        return Verdict(0.0, p_low, epoch, True)


class listening:
    """Lightning's loggers may not propagate to the root, where caplog listens."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        roots = map(logging.getLogger, ("lightning", "lightning.pytorch", "pytorch_lightning"))
        self.loggers, self.handler = [root for root in roots if not root.propagate], caplog.handler

    def __enter__(self) -> None:
        for logger in self.loggers:
            logger.addHandler(self.handler)

    def __exit__(self, *exc: Any) -> None:
        for logger in self.loggers:
            logger.removeHandler(self.handler)


class ByEpoch(torch.utils.data.Sampler[int]):
    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(digits()[0])

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(len(self), generator=torch.Generator().manual_seed(self.epoch)).tolist())
