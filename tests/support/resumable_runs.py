"""Digits in an order that depends on the epoch alone, which go on inside an epoch."""

from __future__ import annotations

from typing import Any

from callback_runs import ByEpoch, Digits
from digits_runs import GOOD, digits
from torch.utils.data import DataLoader


class Stateful(DataLoader[Any]):
    """A loader that goes on where it was, in an order that depends on the epoch alone."""

    def __init__(self) -> None:
        super().__init__(digits()[0], 48, sampler=ByEpoch())
        self.given, self.skip = 0, 0

    def __iter__(self) -> Any:
        skip, self.skip = self.skip, 0
        for self.given, batch in enumerate(super().__iter__(), start=1):
            if self.given > skip:
                yield batch

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.skip = state["given"]


class Resumable(Digits):
    def __init__(self) -> None:
        super().__init__(GOOD, seed=3, validate=True)

    def train_dataloader(self) -> Any:
        return Stateful()
