"""The signature, version 2: how a network's graph has moved since earlier snapshots.

Three properties let one predictor serve networks of any size. It is relative: each number compares a snapshot
with the first one or with the one before. It is bounded: movements are on a logarithmic scale, or on that of
an inverse hyperbolic sine where the sign matters, so that features of diverging runs stay finite. And it is
summarised over depth: networks of five and of fifty layers give equally many numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.signature.snapshot import LAYER_FIELDS, STATISTICS, Array, Snapshot

MOVEMENT_FLOOR = 1e-6
"""Added to the size of a movement before its logarithm is taken: the tolerance of the eigenvector.

Learning rates span five decades, and so do early movements. Without the logarithm all but the largest would
be indistinguishable from zero.
"""

SIGNED_UNIT = 1 / 30
"""Up to this size the scale of signed movements is linear, beyond it logarithmic."""

DEPTH_SUMMARIES = ("mean", "std", "min", "max", "shallowest", "deepest", "middle")
"""The numbers that summarise one quantity over a network's layers, whatever their number."""

_QUANTITIES = (
    "degree_q10",
    "degree_q50",
    "degree_q90",
    "degree_mean",
    "degree_variation",
    "eigenvector_mass",
)
_SIZED = ("degree_mean", "degree_variation", "eigenvector_mass")
_SIZED_ROWS = [_QUANTITIES.index(name) for name in _SIZED]
_TINY = 1e-12  # added to degrees, norms and shares: keeps logarithms finite
_LARGEST = 50.0  # bound on features: weights that are about to overflow give larger logarithms


def movement_names() -> list[str]:
    """Names of the numbers that `graph_movement` returns, in order."""
    names = []
    for since in ("start", "last"):
        names += [f"{name}:signed:{since}" for name in _per_layer([*_QUANTITIES, "frobenius"])]
        names += [f"{name}:size:{since}" for name in _per_layer([*_SIZED, "frobenius", "distance"])]
        names += [f"eigenvalue:{kind}:{since}" for kind in ("signed", "size")]
    names += [f"{name}:signed:start" for name in STATISTICS]
    return names + [f"{name}:size:{since}" for since in ("start", "last") for name in STATISTICS]


def graph_movement(history: Sequence[Snapshot], distances: Sequence[Sequence[float]]) -> Array:
    """The movement of a network since its first snapshot, and since the one before the last.

    Compared are, per node layer: the degrees' quantiles and mean, their coefficient of variation, and the
    layer's share of the eigenvector's square; per weight layer: the norm of the weights and their distance
    from the first ones; of the whole graph: the largest eigenvalue and the ten statistics.

    Args:
        history: at least two snapshots, the first at epoch 0, all finite and with `Snapshot.layers`.
        distances: for each snapshot and weight layer, the Frobenius distance of the weights from those of the
            first snapshot, divided by the norm of those.

    Returns:
        float64, shape [len(movement_names())], each within -50..50.

    Raises:
        PredictorError: a snapshot is missing, not finite, or has no numbers per layer.
    """
    _check(history, distances)
    first, previous, last = history[0], history[-2], history[-1]
    previous_distances, last_distances = (np.asarray(row, dtype=np.float64) for row in distances[-2:])
    parts = _movement(first, last, last_distances)
    parts += _movement(previous, last, last_distances - previous_distances)
    at_first, at_previous, at_last = (np.arcsinh(np.asarray(s.statistics)) for s in (first, previous, last))
    parts += [signed(at_last - at_first), size(at_last - at_first), size(at_last - at_previous)]
    return np.clip(np.nan_to_num(np.concatenate(parts)), -_LARGEST, _LARGEST)


def _movement(start: Snapshot, end: Snapshot, distances: Array) -> list[Array]:
    """The part that compares two snapshots; ``distances`` is the change of the distances between them."""
    (start_nodes, start_weights), (end_nodes, end_weights) = _levels(start), _levels(end)
    nodes, weights = end_nodes - start_nodes, end_weights - start_weights
    growth = np.log(end.eigenvalue + _TINY) - np.log(start.eigenvalue + _TINY)
    return [
        _over_depth(signed(nodes)),
        _over_depth(signed(weights)),
        _over_depth(size(nodes[_SIZED_ROWS])),
        _over_depth(size(weights)),
        _over_depth(size(distances[None])),  # of a data flow there may be more of them, or fewer
        np.array([signed(growth), size(growth)]),
    ]


def _levels(snapshot: Snapshot) -> tuple[Array, Array]:
    """Logarithms of `_QUANTITIES` [quantities, node layers], and of the weights' norms [1, weight layers]."""
    rows = np.array(list(snapshot.layers.values()), dtype=np.float64)
    columns = dict(zip(LAYER_FIELDS, rows.T, strict=True))
    columns["degree_variation"] = (columns["degree_std"] + _TINY) / (columns["degree_mean"] + _TINY)
    columns["eigenvector_mass"] = columns["eigenvector_mean"] ** 2 + columns["eigenvector_std"] ** 2
    nodes = np.stack([columns[name] for name in _QUANTITIES])
    weights = columns["frobenius"][None, 1:]  # no weights lead to the input layer
    return np.log(np.abs(nodes) + _TINY), np.log(np.abs(weights) + _TINY)


def _over_depth(values: Array) -> Array:
    """The numbers that `DEPTH_SUMMARIES` names, for each row of [quantities, layers] in turn."""
    summaries = (values.mean(axis=1), values.std(axis=1), values.min(axis=1), values.max(axis=1))
    single = values[:, [0, -1, values.shape[1] // 2]]  # shallowest, deepest, middle
    return np.column_stack([*summaries, single]).reshape(-1)


def _per_layer(quantities: Sequence[str]) -> list[str]:
    return [f"{name}:{summary}" for name in quantities for summary in DEPTH_SUMMARIES]


def _check(history: Sequence[Snapshot], distances: Sequence[Sequence[float]]) -> None:
    if len(history) < 2 or len(distances) != len(history):
        raise PredictorError(
            f"got {len(history)} snapshots and {len(distances)} rows of distances: give two snapshots or "
            "more, the first at epoch 0, and a row for each"
        )
    for snapshot in history:
        if not (snapshot.finite and snapshot.layers):
            why = "has no numbers per layer" if snapshot.finite else "is not finite"
            raise PredictorError(
                f"the snapshot at epoch {snapshot.epoch:g} {why}: take snapshots of finite weights with "
                "SnapshotReader(graph, per_layer=True)"
            )


def signed(moved: Array) -> Array:
    """Movements on a scale with sign, linear up to `SIGNED_UNIT` and logarithmic beyond."""
    return np.arcsinh(moved / SIGNED_UNIT)


def size(moved: Array) -> Array:
    """Logarithms of the absolute values of movements."""
    return np.log(np.abs(moved) + MOVEMENT_FLOOR)
