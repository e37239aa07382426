"""The processes that share a graph's edges, where weights are sharded: each has some rows of every block.

Degrees, norms and products with the adjacency are sums over edges: each process sums over its own edges, and
an all-reduce adds up the parts. No process holds the whole graph.
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
    """All processes of the default group, which share a graph's edges.

    If one of them fails between two collective operations, the others would wait for it for ever. So it goes
    on with NaN in place of its result, and raises the error when all operations are done: see `run_guarded`
    and `raise_deferred`.
    """

    def __init__(self) -> None:
        self._rank, self._size = distributed.get_rank(), distributed.get_world_size()
        self._deferred: Exception | None = None
        self._same_graph = False

    def shards(self, weights: Sequence[LayerWeight], shapes: Sequence[Sequence[int]]) -> list[range]:
        """The rows of each block that belong to this process.

        A block of several groups, or with a wiring, is not cut: it goes to the process with the fewest edges.

        Args:
            weights: the weight of each block.
            shapes: the shapes of the whole blocks' values, [groups, targets / groups, sources / groups].
        """
        shards, load = [], [0] * self._size
        for weight, (groups, targets, sources) in zip(weights, shapes, strict=True):
            rows = range(groups * targets)
            if groups == 1 and weight.wiring is None:
                shards.append(shard_rows(len(rows), self._rank, self._size))
                continue
            owner = load.index(min(load))
            load[owner] += len(rows) * sources
            shards.append(rows if owner == self._rank else range(0))
        return shards

    def run_guarded(self, work: Callable[[], None], result: Tensor) -> None:
        """Runs this process's part of the work. If it fails, ``result`` becomes NaN and the error is kept."""
        try:
            work()
        except Exception as error:
            self._deferred = self._deferred or error
            result.fill_(math.nan)

    def raise_deferred(self) -> None:
        """Raises the first error that `run_guarded` has kept since the last call."""
        error, self._deferred = self._deferred, None
        if error is not None:
            raise error

    def all_reduce(self, part: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        distributed.all_reduce(part)
        return part

    def broadcast(self, values: Tensor) -> Tensor:
        """The first process's values, in place, so that all processes take the same decisions."""
        distributed.broadcast(values, 0)
        return values

    def any(self, value: bool, device: torch.device) -> bool:
        """Whether it is true on any process."""
        return bool(self.all_reduce(torch.tensor([float(value)], device=device)).item())

    def check_same_graph(self, layers: Sequence[str], sizes: Sequence[int], device: torch.device) -> None:
        """Compares the graphs that the processes have found. Only the first call communicates.

        Raises:
            TracingError: on all processes, if they differ.
        """
        if self._same_graph:
            return
        digest = hashlib.sha256(repr((tuple(layers), tuple(sizes))).encode()).digest()
        own = torch.tensor(list(digest[:8]), dtype=torch.float32, device=device)
        first = self.broadcast(own.clone())
        differ = self.all_reduce((own != first).any().float().view(1))
        self._same_graph = not differ.item()
        if not self._same_graph:
            raise TracingError(
                "the processes have found different graphs, as with a forward pass that depends on the data: "
                "weights that are sharded over processes need the same graph on all of them"
            )
