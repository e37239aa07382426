"""Extremely randomised trees as plain arrays: fitted by scikit-learn, asked without it.

scikit-learn's own trees are tied to the version that grew them. As arrays of numbers they load, and predict
the same, with any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.predictor.features import Array

_LEAF = -1
_SIDES = ("left", "right")


@dataclass(frozen=True)
class Forest:
    """Trees one after the other; a node's row says where to go from it, or what is predicted there.

    Attributes:
        roots: first node of each tree, shape [trees].
        feature: column that a node looks at, -1 for a leaf; shape [nodes].
        threshold: a row goes left if its number is not above it; shape [nodes].
        children: nodes to the left and to the right, shape [nodes, 2].
        values: what is predicted at a node, shape [nodes, outputs].
        importances: how much each column has told, summing to 1; shape [columns].
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    children: NDArray[np.int32]
    values: NDArray[np.float32]
    importances: NDArray[np.float32]

    def __call__(self, x: Array) -> Array:
        """Mean prediction of the trees, shape [n, outputs], for rows [n, columns]."""
        return np.stack([self._one(row) for row in np.asarray(x, dtype=np.float32)])

    def _one(self, row: NDArray[np.float32]) -> Array:
        nodes = self.roots
        while True:
            feature = self.feature[nodes]
            inner = feature != _LEAF
            if not inner.any():
                return np.asarray(self.values[nodes].mean(axis=0, dtype=np.float64))
            right = (row[feature] > self.threshold[nodes]).astype(np.int64)
            nodes = np.where(inner, self.children[nodes, right], nodes)

    def to_arrays(self) -> dict[str, Any]:
        """The arrays by name, to be saved."""
        return dict(vars(self))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Forest:
        """The inverse of `to_arrays`."""
        return cls(**arrays)


def fit_forest(x: Array, y: Array, *, trees: int, seed: int) -> Forest:
    """Grow trees on rows [n, columns] and targets [n, outputs] (Geurts et al., 2006); deterministic."""
    from sklearn.ensemble import ExtraTreesRegressor

    # Two runs a leaf and four tenths of the columns a split did best on held-out runs of all corpora.
    grown = ExtraTreesRegressor(trees, min_samples_leaf=2, max_features=0.4, random_state=seed)
    grown.fit(np.asarray(x, dtype=np.float32), y)
    parts = [estimator.tree_ for estimator in grown.estimators_]
    roots = np.concatenate([[0], np.cumsum([part.node_count for part in parts])[:-1]]).astype(np.int32)
    leaf = np.concatenate([part.children_left for part in parts]) == -1
    shift = np.repeat(roots, [part.node_count for part in parts])
    children = [np.concatenate([getattr(part, f"children_{side}") for part in parts]) for side in _SIDES]
    feature = np.concatenate([part.feature for part in parts])
    threshold = np.concatenate([part.threshold for part in parts])
    values = np.concatenate([part.value[:, :, 0] for part in parts])
    return Forest(
        roots=roots,
        feature=np.where(leaf, _LEAF, feature).astype(np.int16),
        threshold=_rounded_down(np.where(leaf, 0, threshold)),
        children=np.stack([np.where(leaf, 0, child + shift) for child in children], axis=1).astype(np.int32),
        values=np.where(leaf[:, None], values, 0).astype(np.float32),
        importances=grown.feature_importances_.astype(np.float32),
    )


def _rounded_down(threshold: Array) -> NDArray[np.float32]:
    """In single precision, so that the same numbers of single precision are above it."""
    single = threshold.astype(np.float32)
    return np.where(single > threshold, np.nextafter(single, np.float32(-np.inf)), single)
