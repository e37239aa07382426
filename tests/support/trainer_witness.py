"""Runs with and without the callback, and a witness that reads the weights for itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import Digits, hooks, trainer, watcher
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nndyn import GraphDynamicsCallback, SnapshotTaker, rolled_graph
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES

USUAL = [0.0, *DEFAULT_TIMES, 1.0, 2.0]
"""When weights are read in a run of two epochs."""


def statistics(net: nn.Module) -> tuple[float, ...]:
    """Of a graph that is built anew from a copy of the weights, in single precision."""
    graph = rolled_graph(copy.deepcopy(net).float(), torch.zeros(1, 1, 8, 8))
    return SnapshotTaker(graph).take(0.0).statistics


class Witness(L.Callback):
    """Reads the weights for itself whenever the callback has done so; notes after which step."""

    def __init__(self, callback: GraphDynamicsCallback) -> None:
        self.callback = callback
        self.read: list[tuple[float, ...]] = []
        self.steps: list[int] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.start = statistics(pl_module.net)

    def look(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        new = len(self.callback.history) - len(self.read)
        if new and not self.read:
            self.read, self.steps, new = [self.start], [0], new - 1
        self.read += [statistics(pl_module.net)] * new if new else []
        self.steps += [trainer.global_step] * new

    on_train_batch_end = on_train_epoch_end = look


Run = tuple[Any, Tensor]


def run(
    kind: Callable[[], Any], *callbacks: Any, others: Callable[[], list[Any]] = list, **settings: Any
) -> Run:
    """A model that was trained, and what comes next of random numbers."""
    torch.manual_seed(5)
    model = kind()
    trainer(*callbacks, *others(), **{"max_epochs": 2, **settings}).fit(model)
    return model, torch.get_rng_state()


def assert_bit_equal(first: Run, second: Run) -> None:
    assert first[0].losses == second[0].losses
    assert torch.equal(first[1], second[1])
    for (name, before), after in zip(
        first[0].state_dict().items(), second[0].state_dict().values(), strict=True
    ):
        assert torch.equal(before, after), name


def watched(
    kind: Callable[[], Any], others: Callable[[], list[Any]] = list, tolerance: float = 1e-5, **settings: Any
) -> tuple[GraphDynamicsCallback, Witness, Any]:
    """Trains with and without the callback, and checks it against the witness."""
    callback = watcher(None, action="observe", log_signature=not settings.get("barebones"))
    witness = Witness(callback)
    plain, within = (
        run(kind, others=others, **settings),
        run(kind, callback, witness, others=others, **settings),
    )
    assert_bit_equal(plain, within)
    assert hooks(within[0]) == 0 and not callback.session.active
    assert len(witness.read) == len(callback.history)
    for snapshot, wanted in zip(callback.history, witness.read, strict=True):
        assert snapshot.statistics == pytest.approx(wanted, rel=tolerance, abs=tolerance / 10, nan_ok=True)
    return callback, witness, within[0]


class Noisy(Digits):
    """Dropout draws random numbers, batch norm keeps statistics."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            body = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3))
            self.net = nn.Sequential(*body, nn.Linear(144, 10))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("test_loss", F.cross_entropy(self.net(batch[0]), batch[1]))


class Validated(Noisy):
    def __init__(self) -> None:
        super().__init__(validate=True)
