"""Runs on data without length, or with one long epoch, which are read in stretches of steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from callback_runs import BATCHES, Digits, curve_reader, trainer
from digits_runs import BATCH, digits
from torch.utils.data import DataLoader, IterableDataset

from lightning_nndyn import GraphDynamicsCallback


class Stream(IterableDataset[Any]):
    """Batches of digits without end, in an order that depends on their number alone; it knows where it is."""

    def __init__(self) -> None:
        self.given, self.skip = 0, 0

    def __iter__(self) -> Iterator[Any]:
        skip, self.skip = self.skip, 0
        for given, batch in enumerate(self.batches(), start=1):
            if given > skip:
                self.given = given
                yield batch

    def batches(self) -> Iterator[Any]:
        (x, y), epoch = digits()[0].tensors, 0
        while True:
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
            yield from ((x[part], y[part]) for part in order.split(BATCH))
            epoch += 1


class Loader(DataLoader[Any]):
    """What Lightning asks where it is, and how long it is; without a length where there is no end."""

    def __init__(self, length: int | None = None) -> None:
        super().__init__(Stream(), batch_size=None)
        self.length = length

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("this stream has no length")
        return self.length

    def __iter__(self) -> Any:
        return islice(super().__iter__(), self.length)

    def state_dict(self) -> dict[str, int]:
        ahead = self.length is None  # Lightning then asks for a batch before it trains on the one before
        return {"given": self.dataset.given - ahead}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.dataset.skip = state["given"]


class Long(Digits):
    """Trains for one epoch without end, or of so many batches."""

    def __init__(self, *args: Any, length: int | None = None, **settings: Any) -> None:
        super().__init__(*args, **{"validate": True, **settings})
        self.length = length

    def train_dataloader(self) -> Any:
        return Loader(self.length)


def endless(*callbacks: Any, steps: int = 3 * BATCHES, **settings: Any) -> Any:
    """A Trainer that counts in steps, and validates as often as weights are read."""
    defaults = {
        "max_epochs": -1,
        "max_steps": steps,
        "val_check_interval": BATCHES,
        "check_val_every_n_epoch": None,
    }
    return trainer(*callbacks, **{**defaults, **settings})


def by_steps(**settings: Any) -> GraphDynamicsCallback:
    return curve_reader(**{"snapshot_every_n_steps": BATCHES, **settings})


def facts(callback: GraphDynamicsCallback) -> dict[str, Any]:
    """The record, but for the run's name."""
    return {name: value for name, value in callback.session.record.to_dict().items() if name != "run"}


def without_length(settings: Any) -> None:
    settings.filterwarnings("ignore", ".*IterableDataset.*__len__.*")
