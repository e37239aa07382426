"""How a network's graph has moved: the signature, version 2.

Three things make it fit for networks of any size. It is relative: every number compares a snapshot with the
first one or with the one before. It is bounded: logarithms, and an inverse hyperbolic sine where the sign
matters, so that a diverging run leaves no model helpless. And it is summarised over depth: a network of five
layers and one of fifty give as many numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.signature.snapshot import LAYER_FIELDS, STATISTICS, Array, Snapshot

MOVEMENT_FLOOR = 1e-6
"""Added to the size of a movement before its logarithm is taken: the tolerance of the eigenvector.

Learning rates span five decades, and so do the early movements; without a logarithm all but the
largest look like zero.
"""

SIGNED_UNIT = 1 / 30
"""Movement up to which its signed scale is linear: large ones of either sign stay bounded."""

DEPTH_SUMMARIES = ("mean", "std", "min", "max", "shallowest", "deepest", "middle")
"""How numbers of a network's layers, in order of depth, become a fixed number of them."""

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
_TINY = 1e-12  # of a degree, a norm, a share: keeps logarithms finite
_LARGEST = 50.0  # of a feature: weights about to overflow give larger logarithms


def movement_names() -> list[str]:
    """Names of the numbers that `graph_movement` gives, in order."""
    names = []
    for since in ("start", "last"):
        names += [f"{name}:signed:{since}" for name in _per_layer([*_QUANTITIES, "frobenius"])]
        names += [f"{name}:size:{since}" for name in _per_layer([*_SIZED, "frobenius", "distance"])]
        names += [f"eigenvalue:{kind}:{since}" for kind in ("signed", "size")]
    names += [f"{name}:signed:start" for name in STATISTICS]
    return names + [f"{name}:size:{since}" for since in ("start", "last") for name in STATISTICS]


def graph_movement(history: Sequence[Snapshot], distances: Sequence[Sequence[float]]) -> Array:
    """How far and in which way a network has moved since its first and since its last but one snapshot.

    Per node layer: the degrees' quantiles and mean, their coefficient of variation, the share of the
    eigenvector's square; per weight layer the norm of the weights and their distance from the first ones.
    Of the whole graph: the largest eigenvalue and the ten statistics.

    Args:
        history: two snapshots or more, the first at epoch 0, all finite and with `Snapshot.layers`.
        distances: for each snapshot and weight layer, the Frobenius distance of the weights from those of the
            first snapshot, divided by the norm of those.

    Returns:
        float64, shape [len(movement_names())], each within -50..50.

    Raises:
        PredictorError: a snapshot is missing, not finite, or has no numbers per layer.
    """
    _check(history, distances)
    first, last, now = history[0], history[-2], history[-1]
    far = [np.asarray(row, dtype=np.float64) for row in distances]
    parts: list[Array] = []
    for since, moved in ((first, far[-1]), (last, far[-1] - far[-2])):
        parts += _since(now, since, moved)
    level = [np.arcsinh(np.asarray(one.statistics)) for one in (now, first, last)]
    parts += [signed(level[0] - level[1]), size(level[0] - level[1]), size(level[0] - level[2])]
    return np.clip(np.nan_to_num(np.concatenate(parts)), -_LARGEST, _LARGEST)


def _since(now: Snapshot, then: Snapshot, moved: Array) -> list[Array]:
    """The part that compares two snapshots; `moved` is the change of the distances between them."""
    (nodes, weights), (nodes_then, weights_then) = _levels(now), _levels(then)
    nodes, weights = nodes - nodes_then, weights - weights_then
    growth = np.log(now.eigenvalue + _TINY) - np.log(then.eigenvalue + _TINY)
    return [
        _over_depth(signed(nodes)),
        _over_depth(signed(weights)),
        _over_depth(size(nodes[_SIZED_ROWS])),
        _over_depth(size(np.stack([weights[0], moved]))),
        np.array([signed(growth), size(growth)]),
    ]


def _levels(snapshot: Snapshot) -> tuple[Array, Array]:
    """Logarithms of what is compared: [quantities, node layers], and of the norms [1, weight layers]."""
    rows = np.array(list(snapshot.layers.values()), dtype=np.float64)
    columns = dict(zip(LAYER_FIELDS, rows.T, strict=True))
    columns["degree_variation"] = (columns["degree_std"] + _TINY) / (columns["degree_mean"] + _TINY)
    columns["eigenvector_mass"] = columns["eigenvector_mean"] ** 2 + columns["eigenvector_std"] ** 2
    nodes = np.stack([columns[name] for name in _QUANTITIES])
    weights = columns["frobenius"][None, 1:]  # no weights lead to the first layer
    return np.log(np.abs(nodes) + _TINY), np.log(np.abs(weights) + _TINY)


def _over_depth(values: Array) -> Array:
    """The numbers that `DEPTH_SUMMARIES` names, row after row of [quantities, layers]."""
    ends = values[:, [0, -1, values.shape[1] // 2]]
    spread = (values.mean(axis=1), values.std(axis=1), values.min(axis=1), values.max(axis=1))
    return np.column_stack([*spread, ends]).reshape(-1)


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
                "SnapshotTaker(graph, per_layer=True)"
            )


def signed(moved: Array) -> Array:
    """Movements with their sign, linear up to `SIGNED_UNIT` and logarithmic beyond."""
    return np.arcsinh(moved / SIGNED_UNIT)


def size(moved: Array) -> Array:
    """Logarithms of how large movements are, whatever their sign."""
    return np.log(np.abs(moved) + MOVEMENT_FLOOR)
