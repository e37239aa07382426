"""The training losses of an epoch, averaged without waiting for the device that they are on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor

from lightning_nndyn._files import Count
from lightning_nndyn.graph.weights import precise_dtype

_SHARE = 16  # "lately" is the last sixteenth of an epoch
_BLOCK = 64  # losses that are put aside before they are summed up


class LossState(TypedDict):
    """The losses of an unfinished epoch: their sum and number, and those of its last sixteenth."""

    sum: float
    count: Count
    recent: list[float]


class LossMeter:
    """The losses of an epoch: their mean so far, and over the last sixteenth of an epoch.

    Adding a loss neither copies it to the host nor waits for it: it is put aside, and every 64 losses are
    summed up on their device, in double precision where the device has it, so that the result does not depend
    on when they were summed up.

    Args:
        batches_per_epoch: infinite where that is not known; "lately" is then the last sixteen batches.
        copies: whether to keep copies, as the step may write its next loss to the same place. Lightning makes
            one itself, except in manual optimization.
    """

    def __init__(self, batches_per_epoch: float = math.inf, copies: bool = True) -> None:
        recent = _SHARE if math.isinf(batches_per_epoch) else math.ceil(batches_per_epoch / _SHARE)
        self._lately = max(1, recent)
        self._copies = copies
        self._parts = 1
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Forgets the epoch before."""
        self._aside: list[Tensor] = []
        self._summed = 0
        self._sum: Tensor | None = None
        self._recent: deque[Tensor] = deque()  # pieces that hold the last sixteenth, and some more

    def add(self, outputs: Any, parts: int = 1) -> None:
        """Adds the loss that a training step has returned; what holds none is skipped.

        Args:
            outputs: the loss, or a mapping that has it as "loss".
            parts: by how many the loss was divided, as Lightning does where it accumulates gradients.
        """
        # Checking for dict is fast; checking for other mappings takes as long as all the rest of this method.
        loss = outputs.get("loss") if isinstance(outputs, (dict, Mapping)) else outputs
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            return
        if len(self._aside) == _BLOCK or parts != self._parts:
            self._fold()
            self._parts = parts
        self._aside.append(loss.detach().clone() if self._copies else loss)

    def read(self, device: torch.device) -> Tensor:
        """Mean of the epoch so far and mean of its last sixteenth, float32 [2]; NaN before the first loss."""
        self._fold()
        if self._sum is None:
            return torch.full((2,), math.nan, device=device)
        so_far = (self._sum / self._summed).float()
        return torch.stack((so_far, self._last().mean())).to(device)

    def state(self) -> LossState:
        """Plain numbers, for a checkpoint within an epoch."""
        self._fold()
        if self._sum is None:
            return {"sum": 0.0, "count": 0, "recent": []}
        return {"sum": float(self._sum), "count": self._summed, "recent": self._last().tolist()}

    def restore(self, state: LossState, device: torch.device) -> None:
        """The inverse of `state`."""
        self.begin_epoch()
        if state["count"]:
            self._summed = state["count"]
            self._sum = torch.tensor(state["sum"], dtype=precise_dtype(device), device=device)
            self._recent.append(torch.tensor(state["recent"], device=device))

    def _fold(self) -> None:
        """Adds what was put aside to the sum and to the recent losses."""
        if not self._aside:
            return
        device = (self._aside[0] if self._sum is None else self._sum).device
        piece = torch.stack([loss.detach().reshape(()).to(device, torch.float32) for loss in self._aside])
        if self._parts != 1:
            piece *= self._parts
        total = piece.sum(dtype=precise_dtype(device))
        self._sum = total if self._sum is None else self._sum + total
        self._summed += len(self._aside)
        self._aside = []
        self._recent.append(piece)
        kept = sum(map(len, self._recent))
        while kept - len(self._recent[0]) >= self._lately:
            kept -= len(self._recent.popleft())

    def _last(self) -> Tensor:
        return torch.cat(tuple(self._recent))[-self._lately :]
