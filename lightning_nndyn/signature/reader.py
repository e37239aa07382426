"""Reads snapshots from a graph whose weights change (section 3.2, S3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_nndyn.graph.centrality import unchecked_degree
from lightning_nndyn.graph.eigensolver import (
    RayleighRitzSolver,
    StagnationTest,
    is_synchronous,
    iterate,
    solver_for,
)
from lightning_nndyn.graph.matvec import adjacency_operator
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.statistics import LAYER_STATISTICS, Segments, summarize, summarize_layers
from lightning_nndyn.signature.snapshot import STATISTICS, Snapshot
from lightning_nndyn.signature.weight_distance import WeightDistances, sample

# Eigensolver steps on a GPU before the residual is looked at: that copies to the host, which waits for all
# queued work. A warm start, from the eigenvector of the snapshot before, needs fewer steps.
_COLD_STEPS, _WARM_STEPS = 7, 5
_MAX_ITERATIONS = 2000

# The numbers of a snapshot of weights that are NaN or infinite.
_NOT_FINITE = (math.nan,) * (3 + len(STATISTICS))


class SnapshotReader:
    """Reads a graph's weights again and again, each time starting from the eigenvector before.

    On a GPU a snapshot is one copy of a few dozen numbers to the host, unless the eigenvector needs more
    steps than expected.

    Args:
        graph: the network's rolled graph; or a signed part of its unrolled graph, or the whole of that by the
            absolute values of its weights. An unrolled graph's memory for the eigenvector is kept from one
            snapshot to the next.
        tol: bound on the eigenvector's residual.
        per_layer: whether snapshots carry the numbers of each layer; not those of an unrolled graph.
        first_weights: `first_weights` of another reader of the same network, whose distances are continued;
            None to measure distances from the first snapshot of this one.
        eigenvector: `eigenvector` of another reader of the same network, to go on from; None to begin anew,
            as where its length does not fit.

    Attributes:
        eigenvector: of the last snapshot that was finite, shape [nodes]; None before one.
    """

    def __init__(
        self,
        graph: RolledGraph,
        tol: float = 1e-6,
        per_layer: bool = False,
        first_weights: Sequence[Tensor] | None = None,
        eigenvector: Tensor | None = None,
    ) -> None:
        self.graph = graph = graph.absolute()
        self._tol = tol
        self._per_layer = per_layer
        self._operator = adjacency_operator(graph, tol)
        self._layers_of_nodes = Segments(graph.layer_sizes, graph.device)
        fits = eigenvector is not None and eigenvector.shape == (graph.num_nodes,)
        self.eigenvector = eigenvector.to(graph.device) if eigenvector is not None and fits else None
        self._solver: RayleighRitzSolver | None = None
        self._steps = _COLD_STEPS if self.eigenvector is None else _WARM_STEPS
        self._collective = graph.collective
        self._distances = _weight_distances(graph, first_weights) if per_layer else None

    @property
    def first_weights(self) -> list[Tensor]:
        """A sample of each layer's first weights, from which distances are measured; empty before those."""
        return self._distances.first if self._distances is not None else []

    def read(self, epoch: float) -> Snapshot:
        """Reads the current weights.

        Weights that are NaN or infinite give a snapshot with NaN statistics, not an error: predictors learn
        from diverged runs, too. A collective operation where weights are sharded over processes.
        """
        try:
            return self._read(epoch)
        finally:
            if self._collective is not None:
                self._collective.raise_deferred()

    def take(self, epoch: float) -> Snapshot:
        """`read` under its former name."""
        return self.read(epoch)

    def _read(self, epoch: float) -> Snapshot:
        samples: list[Tensor] = []  # copies: views would keep weights that were made for this reading
        if self._distances is None:
            graph = self.graph.refresh()
        else:
            graph = self.graph.refresh(lambda weight: samples.append(sample(weight).clone()))
        self._operator.refresh()
        degree = unchecked_degree(graph)
        finite = degree.isfinite().all()
        if self._collective is not None:  # all processes must decide alike when to end the shared work
            finite = self._collective.broadcast(finite.float())
        can_wait = is_synchronous(graph.device)
        if (can_wait or self._collective is not None) and not bool(finite):
            return self._snapshot(epoch, _NOT_FINITE, 0)
        distances = degree.new_empty(0) if self._distances is None else self._distances.read(samples)
        solver = solver_for(self._operator, degree, self.eigenvector, self._solver)
        if graph.has_large_layers:
            self._solver = solver
        if can_wait and self._collective is None:
            iterate(solver, self._tol, _MAX_ITERATIONS)
            vector, numbers = self._numbers(solver, degree, distances)
        else:
            vector, numbers = self._iterate_in_bursts(solver, degree, distances)
        if not numbers[0]:
            return self._snapshot(epoch, _NOT_FINITE, 0)
        self._steps = _WARM_STEPS
        self.eigenvector = vector
        return self._snapshot(epoch, numbers, solver.iterations)

    def _iterate_in_bursts(
        self, solver: RayleighRitzSolver, degree: Tensor, distances: Tensor
    ) -> tuple[Tensor, list[float]]:
        """Like `iterate`, but looks at the residual only after several steps, with all other numbers."""
        stagnation = StagnationTest(solver.dtype)
        while True:
            solver.extend(self._steps)
            vector, numbers = self._numbers(solver, degree, distances)
            finite, _, residual = numbers[:3]
            if not finite or residual <= self._tol:
                return vector, numbers
            if stagnation.reached(residual, solver.iterations) or solver.iterations >= _MAX_ITERATIONS:
                return vector, numbers

    def _numbers(
        self, solver: RayleighRitzSolver, degree: Tensor, distances: Tensor
    ) -> tuple[Tensor, list[float]]:
        """The eigenvector, and all numbers of a snapshot in one copy to the host.

        They are: 1 if the degrees are finite, else 0; eigenvalue; residual; the ten statistics; and if asked
        for, the layers' statistics of degree and eigenvector, their weights' norms, and the distances.
        """
        vector, eigenvalue, residual = solver.result()
        features = (degree, vector)
        parts = [
            torch.stack((degree.isfinite().all().double(), eigenvalue.double(), residual.double())),
            *(torch.nan_to_num(summarize(feature), nan=0.0) for feature in features),
        ]
        if self._per_layer:
            parts += [summarize_layers(feature, self._layers_of_nodes).reshape(-1) for feature in features]
            parts += [self._norms(), distances]
        numbers = torch.cat(parts)
        return vector, _to_host(numbers if self._collective is None else self._collective.broadcast(numbers))

    def _norms(self) -> Tensor:
        """Norm of the weights that lead to each node layer; 0 for layers that none lead to."""
        norms = torch.zeros(len(self.graph.layer_sizes), dtype=torch.float64, device=self.graph.device)
        for shared in self.graph.shared_blocks:
            norms[shared.block.target] += torch.linalg.vector_norm(shared.block.values).double() ** 2
        return (norms if self._collective is None else self._collective.all_reduce(norms)).sqrt()

    def _snapshot(self, epoch: float, numbers: Sequence[float], iterations: int) -> Snapshot:
        """The snapshot of the numbers that `_numbers` returns, with or without those of the layers."""
        graph, end = self.graph, 3 + len(STATISTICS)
        layers: dict[str, tuple[float, ...]] = {}
        distances: tuple[float, ...] = ()
        if len(numbers) > end:
            split = len(numbers) - len(graph.shared_blocks)
            layers, distances = self._layers(numbers[end:split]), tuple(numbers[split:])
        _, eigenvalue, residual, *statistics = numbers[:end]
        return Snapshot(
            epoch, tuple(statistics), eigenvalue, residual, iterations, graph.num_nodes, graph.num_edges,
            layers, distances, "chain" if graph.is_chain else "dataflow", graph.kinds, graph.depth,
        )  # fmt: skip

    def _layers(self, numbers: Sequence[float]) -> dict[str, tuple[float, ...]]:
        names, width = self.graph.layer_names, len(LAYER_STATISTICS)
        size = width * len(names)
        degree, vector, frobenius = numbers[:size], numbers[size : 2 * size], numbers[2 * size :]
        return {
            name: (*degree[i * width : (i + 1) * width], *vector[i * width : (i + 1) * width], frobenius[i])
            for i, name in enumerate(names)
        }


SnapshotTaker = SnapshotReader
"""The former name."""


def _weight_distances(graph: RolledGraph, first: Sequence[Tensor] | None) -> WeightDistances:
    blocks = [shared.block for shared in graph.shared_blocks]
    rows = [block.rows for block in blocks]
    return WeightDistances([b.weight for b in blocks], first, rows=rows, collective=graph.collective)


def _to_host(numbers: Tensor) -> list[float]:
    """The one place where a snapshot waits for the device."""
    return numbers.cpu().tolist()
