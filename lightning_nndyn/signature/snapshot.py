"""A snapshot: the statistics of a network's graph at one time in training (section 3.2, S3)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from lightning_nndyn._files import Count, Finite, decode
from lightning_nndyn.graph.statistics import AGGREGATORS, LAYER_STATISTICS

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SIGNATURE_VERSION = 2
"""Changes when the meaning of a snapshot's statistics does; predictors of another version are refused."""

STATISTICS = tuple(f"{feature}_{name}" for feature in ("degree", "eigenvector") for name in AGGREGATORS)
"""Names of a snapshot's ten statistics, in order."""

LAYER_FIELDS = (
    *(f"{feature}_{name}" for feature in ("degree", "eigenvector") for name in LAYER_STATISTICS),
    "frobenius",
)
"""Names of a node layer's numbers in `Snapshot.layers`; ``frobenius`` is the norm of the weights to it."""

_Statistics = Annotated[tuple[float, ...], Meta(min_length=len(STATISTICS), max_length=len(STATISTICS))]
_Layer = Annotated[tuple[float, ...], Meta(min_length=len(LAYER_FIELDS), max_length=len(LAYER_FIELDS))]

DEFAULT_TIMES = (0.0625, 0.125, 0.25, 0.5)
"""Fractions of the first epoch at which weights are read, besides 0 and every epoch's end."""


@dataclass(frozen=True)
class Snapshot:
    """The statistics of a network's graph at one time.

    Attributes:
        epoch: the time in epochs: 0 is before the first step, 0.25 after a quarter of the first epoch's
            batches.
        statistics: the ten numbers that `STATISTICS` names; all NaN if weights are not finite.
        eigenvalue: the largest eigenvalue of the adjacency matrix W.
        residual: ``|W v - lambda v| / lambda`` of the eigenvector.
        iterations: number of products with W that the eigenvector took.
        num_nodes: the graph's nodes.
        num_edges: the graph's edges.
        layers: for each node layer the numbers that `LAYER_FIELDS` names; empty unless asked for.
        distances: for each of the graph's shared blocks (in a chain: each node layer but the input), the
            distance of the weights from those of the first snapshot, in units of the latter's norm
            (`WeightDistances`); empty if ``layers`` is.
        topology: the graph's topology, ``"chain"`` or ``"dataflow"``.
        kinds: the kinds of the graph's layers, sorted, see `graph.tracing.layer_kinds`; empty if unknown.
        depth: number of node layers that weights lead to; 0 if unknown.
    """

    epoch: Finite
    statistics: _Statistics
    eigenvalue: float
    residual: float
    iterations: Count
    num_nodes: Count
    num_edges: Count
    layers: Mapping[str, _Layer] = field(default_factory=dict)
    distances: tuple[float, ...] = ()
    topology: str = "chain"
    kinds: tuple[str, ...] = ()
    depth: Count = 0

    @property
    def finite(self) -> bool:
        """False for a network whose weights have become NaN or infinite."""
        return all(map(math.isfinite, self.statistics))

    def to_dict(self) -> dict[str, Any]:
        """Numbers, lists and dicts only, for JSON and checkpoints."""
        # `dataclasses.asdict` copies every value and takes ten times as long.
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        plain["statistics"] = list(self.statistics)
        plain["layers"] = {name: list(row) for name, row in self.layers.items()}
        plain["distances"] = list(self.distances)
        plain["kinds"] = list(self.kinds)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Snapshot:
        """The inverse of `to_dict`; also reads dicts from before topology, kinds and depth were added.

        Raises:
            ValueError: a value is missing or unfit.
        """
        found = decode(plain, cls)
        # Dicts without a depth are of chains.
        return found if "depth" in plain else replace(found, depth=chain_depth(found.layers))


def chain_depth(layers: Collection[str]) -> int:
    """The depth of a chain with these node layers: all but the input; 0 if they are unknown."""
    return max(len(layers) - 1, 0)


def statistics_matrix(snapshots: Sequence[Snapshot]) -> Array:
    """The statistics of a series of snapshots, float64 [n, 10]."""
    rows = [snapshot.statistics for snapshot in snapshots]
    return np.array(rows, dtype=np.float64).reshape(-1, len(STATISTICS))


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
