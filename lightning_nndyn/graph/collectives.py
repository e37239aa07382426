"""Processes that have a graph's edges between them: each some rows of every block.

Degrees, norms and products with the adjacency are sums over edges, so that each process sums over its own and
what all of them get is added up. No process holds the whole graph.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, distributed

from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.blocks import LayerWeight
from lightning_nndyn.graph.sharding import shard_rows


class EdgeShardGroup:
    """All processes of the default group, as those that have a graph's edges between them.

    Where one of them fails it keeps meeting the others, with NaN in its hands, and raises at the end: see
    `raise_deferred`.
    """

    def __init__(self) -> None:
        self._rank, self._size = distributed.get_rank(), distributed.get_world_size()
        self._failure: Exception | None = None
        self._alike = False

    def shards(self, weights: Sequence[LayerWeight], shapes: Sequence[Sequence[int]]) -> list[range]:
        """The rows of each block that are this process's.

        A block of groups, or with a wiring, is not cut: it goes to the process that has the fewest edges.

        Args:
            weights: one for each block.
            shapes: of the whole blocks' values, [groups, targets / groups, sources / groups].
        """
        found, load = [], [0] * self._size
        for weight, (groups, targets, sources) in zip(weights, shapes, strict=True):
            rows = range(groups * targets)
            if groups == 1 and weight.wiring is None:
                found.append(shard_rows(len(rows), self._rank, self._size))
                continue
            owner = load.index(min(load))
            load[owner] += len(rows) * sources
            found.append(rows if owner == self._rank else range(0))
        return found

    def run_guarded(self, work: Callable[[], None], result: Tensor) -> None:
        """Does this process's part of the work; where that fails, the result becomes NaN."""
        try:
            work()
        except Exception as error:
            self._failure = self._failure or error
            result.fill_(math.nan)

    def all_reduce(self, part: Tensor) -> Tensor:
        """Adds up what the processes have, in place."""
        distributed.all_reduce(part)
        return part

    def broadcast(self, values: Tensor) -> Tensor:
        """The first process's values, in place: what is decided by them is decided alike."""
        distributed.broadcast(values, 0)
        return values

    def any(self, value: bool, device: torch.device) -> bool:
        """Whether it is true on any process."""
        return bool(self.all_reduce(torch.tensor([float(value)], device=device)).item())

    def raise_deferred(self) -> None:
        """Raises what has failed on this process since the last call."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def check_same_graph(self, layers: Sequence[str], sizes: Sequence[int], device: torch.device) -> None:
        """Compares the graphs that the processes have found, once.

        Raises:
            TracingError: on all processes, if they differ.
        """
        if self._alike:
            return
        digest = hashlib.sha256(repr((tuple(layers), tuple(sizes))).encode()).digest()
        mine = torch.tensor(list(digest[:8]), dtype=torch.float32, device=device)
        first = self.broadcast(mine.clone())
        differ = self.all_reduce((mine != first).any().float().view(1))
        self._alike = not differ.item()
        if not self._alike:
            raise TracingError(
                "the processes have found different graphs, as with a forward pass that depends on the data: "
                "weights that are spread over processes need the same on all of them"
            )
