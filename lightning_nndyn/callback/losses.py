"""Training losses as they come, kept where they are until somebody asks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_SHARE = 16  # "lately" is the last sixteenth of an epoch


class LossMeter:
    """The losses of an epoch: their mean so far, and over the last sixteenth of an epoch.

    Adding one neither copies it to the host nor waits for it.

    Args:
        batches_per_epoch: infinite where that is not known; "lately" is then the last sixteen batches.
    """

    def __init__(self, batches_per_epoch: float = math.inf) -> None:
        recent = _SHARE if math.isinf(batches_per_epoch) else math.ceil(batches_per_epoch / _SHARE)
        self._recent: deque[Tensor] = deque(maxlen=max(1, recent))
        self._sum: Tensor | None = None
        self._count = 0

    def begin_epoch(self) -> None:
        """Forgets the epoch before."""
        self._recent.clear()
        self._sum, self._count = None, 0

    def add(self, outputs: Any, parts: int = 1) -> None:
        """Takes what a training step has returned; what has no loss in it is passed over.

        Args:
            outputs: the loss, or a mapping that has it as "loss".
            parts: by how many the loss was divided, as Lightning does where it accumulates gradients.
        """
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            return
        # A copy: the step may write its next loss to the same place.
        loss = loss.detach().reshape(()).to(torch.float32, copy=True)
        if parts != 1:
            loss *= parts
        self._sum = loss if self._sum is None else self._sum + loss
        self._count += 1
        self._recent.append(loss)

    def read(self, device: torch.device) -> Tensor:
        """Mean of the epoch so far and mean of its last sixteenth, float32 [2]; NaN where none has come."""
        if self._sum is None:
            return torch.full((2,), math.nan, device=device)
        lately = torch.stack(list(self._recent)).mean()
        return torch.stack((self._sum / self._count, lately)).to(device)

    def state(self) -> dict[str, Any]:
        """Plain numbers, for a checkpoint within an epoch."""
        recent = torch.stack(list(self._recent)).tolist() if self._recent else []
        return {"sum": float(self._sum or 0), "count": self._count, "recent": recent}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Goes on from what `state` gave."""
        self.begin_epoch()
        self._count = state["count"]
        self._sum = torch.tensor(state["sum"], device=device) if self._count else None
        self._recent.extend(torch.tensor(loss, device=device) for loss in state["recent"])
