"""Snapshots of a network in training and the temporal signature they make (step S3 of section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_nndyn.graph.centrality import unchecked_degree
from lightning_nndyn.graph.eigensolver import RayleighRitzSolver, StagnationTest, iterate
from lightning_nndyn.graph.matvec import adjacency_operator
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.statistics import AGGREGATORS, LAYER_STATISTICS, summarize, summarize_layers
from lightning_nndyn.signature.weight_distance import WeightDistances

SIGNATURE_VERSION = 2
"""Changes when the meaning of a snapshot's statistics does; predictors of another version are refused."""

STATISTICS = tuple(f"{feature}_{name}" for feature in ("degree", "eigenvector") for name in AGGREGATORS)
"""Names of a snapshot's ten statistics, in order."""

LAYER_FIELDS = (
    *(f"{feature}_{name}" for feature in ("degree", "eigenvector") for name in LAYER_STATISTICS),
    "frobenius",
)
"""Names of a node layer's numbers in `Snapshot.layers`; ``frobenius`` is the norm of the weights to it."""

DEFAULT_TIMES = (0.0625, 0.125, 0.25, 0.5)
"""Fractions of the first epoch at which weights are read, besides 0 and every epoch's end."""

Form = Literal["plain", "linear", "exponential"]

# Steps on a GPU before the first look: a look is a copy to the host, which waits for all work queued.
_COLD_STEPS, _WARM_STEPS = 7, 5
_MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class Snapshot:
    """What is kept of a network's weights at one moment.

    Attributes:
        epoch: when, in epochs: 0 is before the first step, 0.25 after a quarter of the first epoch's batches.
        statistics: the ten numbers that `STATISTICS` names; all NaN if weights are not finite.
        eigenvalue: the adjacency matrix's largest eigenvalue.
        residual: ``|W v - lambda v| / lambda`` of the eigenvector.
        iterations: multiplications by W that it took.
        num_nodes: the graph's nodes.
        num_edges: the graph's edges.
        layers: for each node layer the numbers that `LAYER_FIELDS` names; empty unless asked for.
        distances: for each of the graph's streams (in a chain: each node layer but the input), how far the
            weights are from those of the first snapshot, in units of their norm (`WeightDistances`); comes
            with ``layers``.
        topology: of the graph, ``"chain"`` or ``"dataflow"``.
        kinds: of the graph's layers, sorted, see `graph.tracing.layer_kinds`; empty if unknown.
        depth: number of node layers that weights lead to; 0 if unknown.
    """

    epoch: float
    statistics: tuple[float, ...]
    eigenvalue: float
    residual: float
    iterations: int
    num_nodes: int
    num_edges: int
    layers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    distances: tuple[float, ...] = ()
    topology: str = "chain"
    kinds: tuple[str, ...] = ()
    depth: int = 0

    @property
    def finite(self) -> bool:
        """False for a network whose weights have become NaN or infinite."""
        return all(map(math.isfinite, self.statistics))

    def to_dict(self) -> dict[str, Any]:
        """Numbers, lists and dicts only, for JSON and checkpoints."""
        # `asdict` would copy whatever it finds, and take ten times as long.
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        plain["statistics"] = list(self.statistics)
        plain["layers"] = {name: list(row) for name, row in self.layers.items()}
        plain["distances"] = list(self.distances)
        plain["kinds"] = list(self.kinds)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Snapshot:
        """The inverse of `to_dict`; also of what it gave before it told topology, kinds and depth."""
        layers = {name: tuple(row) for name, row in plain["layers"].items()}
        rows = {name: tuple(plain.get(name, ())) for name in ("statistics", "distances", "kinds")}
        depth = chain_depth(layers)  # then there were only chains
        return cls(**{"depth": depth, **plain, **rows, "layers": layers})


def chain_depth(layers: Collection[str]) -> int:
    """The depth of a chain with these node layers: all but the input; 0 if they are not known."""
    return max(len(layers) - 1, 0)


class SnapshotTaker:
    """Reads a graph's weights again and again, each time starting from the eigenvector before.

    On a GPU a snapshot is one copy of some dozen numbers to the host, unless the eigenvector needs more steps
    than foreseen.

    Args:
        graph: the network's rolled graph.
        tol: bound on the eigenvector's residual.
        per_layer: whether snapshots carry the numbers of each layer.
        first_weights: what another taker of the same network had under this name, to go on measuring
            distances from there; None to begin with the next snapshot.
    """

    def __init__(
        self,
        graph: RolledGraph,
        tol: float = 1e-6,
        per_layer: bool = False,
        first_weights: Sequence[Tensor] | None = None,
    ) -> None:
        self.graph = graph
        self._tol = tol
        self._per_layer = per_layer
        self._products = adjacency_operator(graph, tol)
        self._vector: Tensor | None = None
        self._steps = _COLD_STEPS
        self._collective = graph.collective
        self._distances = _distances(graph, first_weights) if per_layer else None

    @property
    def first_weights(self) -> list[Tensor]:
        """A sample of each layer's first weights, from which distances are measured; empty before those."""
        return self._distances.first if self._distances is not None else []

    def take(self, epoch: float) -> Snapshot:
        """Reads the weights now.

        Weights that are NaN or infinite give a snapshot with NaN statistics, not an error: a diverged run is
        something to learn from. A collective operation where weights are spread over processes.
        """
        try:
            return self._take(epoch)
        finally:
            if self._collective is not None:
                self._collective.raise_deferred()

    def _take(self, epoch: float) -> Snapshot:
        graph = self.graph.refresh()
        self._products.refresh()
        degree = unchecked_degree(graph)
        finite = degree.isfinite().all()
        if self._collective is not None:  # processes that share the work must decide alike when to end it
            finite = self._collective.broadcast(finite.float())
        look = _waits_cheaply(graph.device)
        if (look or self._collective is not None) and not bool(finite):
            return self._diverged(epoch)
        distances = degree.new_empty(0) if self._distances is None else self._distances.read()
        solver = RayleighRitzSolver(self._products, degree, self._vector)
        alone = look and self._collective is None
        if alone:
            iterate(solver, self._tol, _MAX_ITERATIONS)
        else:
            solver.extend(self._steps)
        vector, numbers = self._read(solver, degree, distances)
        rounding = StagnationTest(solver.dtype)
        while not alone and numbers[0] and not numbers[2] <= self._tol:
            if rounding.reached(numbers[2], solver.iterations) or solver.iterations >= _MAX_ITERATIONS:
                break
            solver.extend(self._steps)
            vector, numbers = self._read(solver, degree, distances)
        if not numbers[0]:
            return self._diverged(epoch)
        self._steps = _WARM_STEPS
        self._vector = vector
        return self._snapshot(epoch, numbers, solver.iterations)

    def _read(
        self, solver: RayleighRitzSolver, degree: Tensor, distances: Tensor
    ) -> tuple[Tensor, list[float]]:
        """All numbers of a snapshot in one copy to the host."""
        vector, eigenvalue, residual = solver.result()
        features = (degree, vector)
        parts = [
            torch.stack((degree.isfinite().all().double(), eigenvalue.double(), residual.double())),
            *(torch.nan_to_num(summarize(feature), nan=0.0) for feature in features),
        ]
        if self._per_layer:
            parts += [summarize_layers(feature, self.graph.layer_sizes).reshape(-1) for feature in features]
            parts += [self._norms(), distances]
        numbers = torch.cat(parts)
        return vector, _to_host(numbers if self._collective is None else self._collective.broadcast(numbers))

    def _snapshot(self, epoch: float, numbers: list[float], iterations: int) -> Snapshot:
        _, eigenvalue, residual = numbers[:3]
        end = 3 + len(STATISTICS)
        snapshot = self._make(epoch, tuple(numbers[3:end]), eigenvalue, residual, iterations)
        if not self._per_layer:
            return snapshot
        streams = len(self.graph.shared_blocks)
        rest, far = numbers[end:-streams], numbers[-streams:]
        return replace(snapshot, layers=self._layers(rest), distances=tuple(far))

    def _norms(self) -> Tensor:
        """Of the weights that lead to each node layer; 0 for layers that nothing leads to."""
        norms = torch.zeros(len(self.graph.layer_sizes), dtype=torch.float64, device=self.graph.device)
        for shared in self.graph.shared_blocks:
            norms[shared.block.target] += torch.linalg.vector_norm(shared.block.values).double() ** 2
        return (norms if self._collective is None else self._collective.all_reduce(norms)).sqrt()

    def _layers(self, numbers: list[float]) -> dict[str, tuple[float, ...]]:
        names, width = self.graph.layer_names, len(LAYER_STATISTICS)
        degree, vector = numbers[: width * len(names)], numbers[width * len(names) : 2 * width * len(names)]
        frobenius = numbers[2 * width * len(names) :]
        return {
            name: (*degree[i * width : (i + 1) * width], *vector[i * width : (i + 1) * width], frobenius[i])
            for i, name in enumerate(names)
        }

    def _diverged(self, epoch: float) -> Snapshot:
        return self._make(epoch, (math.nan,) * len(STATISTICS), math.nan, math.nan, 0)

    def _make(
        self, epoch: float, statistics: tuple[float, ...], eigenvalue: float, residual: float, iterations: int
    ) -> Snapshot:
        graph = self.graph
        return Snapshot(
            epoch, statistics, eigenvalue, residual, iterations, graph.num_nodes, graph.num_edges,
            topology="chain" if graph.is_chain else "dataflow", kinds=graph.kinds, depth=graph.depth,
        )  # fmt: skip


def _distances(graph: RolledGraph, first: Sequence[Tensor] | None) -> WeightDistances:
    blocks = [shared.block for shared in graph.shared_blocks]
    rows = [block.rows for block in blocks]
    return WeightDistances([b.weight for b in blocks], first, rows=rows, collective=graph.collective)


def _waits_cheaply(device: torch.device) -> bool:
    """Whether looking at a number costs nothing: on a GPU it waits for all work queued."""
    return device.type == "cpu"


def _to_host(numbers: Tensor) -> list[float]:
    """The one place where a snapshot waits for the device."""
    return numbers.cpu().tolist()


def batch_of(time: float, batches_per_epoch: int) -> int:
    """The number of batches after which a fraction of the first epoch has passed: at least one.

    Raises:
        ValueError: if ``time`` is not within (0, 1] or the epoch has no batch.
    """
    if not 0 < time <= 1 or batches_per_epoch < 1:
        raise ValueError(
            f"time={time} must be within (0, 1] and batches_per_epoch={batches_per_epoch} at least 1"
        )
    return max(1, math.ceil(time * batches_per_epoch))


def temporal(signatures: np.ndarray, form: Form = "plain", alpha: float = 0.5) -> np.ndarray:
    """The three temporal forms of a series of signatures (S3); its rows concatenated are the paper's S_t.

    Args:
        signatures: [n, k], one signature a snapshot, earliest first.
        form: ``"plain"`` leaves them; ``"linear"`` takes at each time the mean of all up to it, weighted 1,
            2, ...; ``"exponential"`` takes ``alpha * now + (1 - alpha) * before``, with the value before
            already smoothed.
        alpha: weight of the newest signature in the exponential form, within (0, 1].

    Returns:
        [n, k], float64.

    Raises:
        ValueError: if ``form`` is unknown, ``alpha`` out of range or ``signatures`` not two-dimensional.
    """
    series = np.asarray(signatures, dtype=np.float64)
    if series.ndim != 2:
        raise ValueError(f"signatures must be [n, k], got shape {series.shape}")
    if form == "plain":
        return series.copy()
    if form == "linear":
        weight = np.arange(1, len(series) + 1, dtype=np.float64)
        return np.cumsum(weight[:, None] * series, axis=0) / np.cumsum(weight)[:, None]
    if form != "exponential":
        raise ValueError(f"form={form!r} is unknown: take 'plain', 'linear' or 'exponential'")
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha={alpha} must be within (0, 1]")
    smoothed = series.copy()
    for i in range(1, len(smoothed)):
        smoothed[i] = alpha * series[i] + (1 - alpha) * smoothed[i - 1]
    return smoothed


def statistics_matrix(snapshots: Sequence[Snapshot]) -> np.ndarray:
    """The statistics of a series of snapshots, float64 [n, 10]."""
    return np.array([snapshot.statistics for snapshot in snapshots], dtype=np.float64).reshape(
        -1, len(STATISTICS)
    )
