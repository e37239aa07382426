"""The forests of the predictors that ship: what they read, and how they are grown and evaluated.

Trees are grown by scikit-learn and kept as plain arrays. scikit-learn's own trees are tied to the version
that grew them; arrays of numbers load, and predict the same, with any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.predictor.array_file import check_array
from lightning_nndyn.predictor.history import HistoryByEpoch, epoch_ends
from lightning_nndyn.predictor.learning_curve import (
    LearningCurve,
    curve_row,
    curve_width,
    linear_row,
    linear_width,
)
from lightning_nndyn.predictor.model_family import FittedModel, ModelFamily
from lightning_nndyn.predictor.training_set import Targets
from lightning_nndyn.predictor.verdict import WEIGHTS, WEIGHTS_AND_CURVE
from lightning_nndyn.signature.relative import graph_movement, movement_names
from lightning_nndyn.signature.snapshot import STATISTICS, Array

TREES = 60

OUTPUTS = 3
"""What is predicted: whether a run is low, its final accuracy, and that as a share of the best."""

_LEAF = -1
_MOST_NODES = 2**17  # of one tree: walking down takes so many steps at worst
_RIDGE = 1.0


@dataclass(frozen=True)
class Forest:
    """Trees, one after the other, as arrays with a row for each node.

    Attributes:
        roots: first node of each tree, shape [trees].
        feature: column that a node compares, -1 for a leaf; shape [nodes].
        threshold: a row goes left if its number is not above it; shape [nodes].
        right: how many nodes further the one to the right stands, 0 for a leaf; shape [nodes]. The one to the
            left comes next.
        values: predictions at a leaf, shape [nodes, outputs].
        importances: share of the variance that each column explains; shape [columns].
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    right: NDArray[np.int32]
    values: NDArray[np.float32]
    importances: NDArray[np.float32]

    def __call__(self, x: Array) -> Array:
        """Mean prediction of the trees, shape [n, outputs], for rows [n, columns]."""
        return np.stack([self._predict(row) for row in np.asarray(x, dtype=np.float32)])

    def _predict(self, row: NDArray[np.float32]) -> Array:
        nodes = self.roots
        while True:  # one step down in all trees at once
            feature = self.feature[nodes]
            inner = feature != _LEAF
            if not inner.any():
                return np.asarray(self.values[nodes].mean(axis=0, dtype=np.float64))
            step = np.where(row[feature] > self.threshold[nodes], self.right[nodes], 1)
            nodes = nodes + np.where(inner, step, 0)

    def to_arrays(self) -> dict[str, Any]:
        """The arrays by name, to be saved."""
        return dict(vars(self))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Forest:
        """The inverse of `to_arrays`.

        Raises:
            ValueError: they are not those of trees, each of which ends in leaves after few steps.
        """
        found = cls(**_without_children(arrays))
        nodes = len(found.feature)
        check_array(found.roots, "i", (None,), 0, nodes - 1)
        check_array(found.importances, "f", (None,), 0)
        check_array(found.feature, "i", (nodes,), _LEAF, len(found.importances) - 1)
        check_array(found.threshold, "f", (nodes,))
        check_array(found.right, "i", (nodes,), 0, nodes - 1)
        check_array(found.values, "f", (nodes, None))
        sizes = np.diff(found.roots, append=nodes)
        if found.roots[0] != 0 or sizes.min() < 1 or sizes.max() > _MOST_NODES:
            raise ValueError(f"trees do not follow each other, or have more than {_MOST_NODES:,} nodes")
        # A child comes after its parent and belongs to the same tree: no way leads round in a circle.
        left_to_end = np.repeat(found.roots + sizes, sizes) - np.arange(nodes)
        if not ((found.feature == _LEAF) | ((found.right >= 2) & (found.right < left_to_end))).all():
            raise ValueError("a node of a tree comes before its parent, or belongs to another tree")
        return found


def _without_children(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays, of an older release as well: it kept both children of a node by their numbers."""
    found = dict(arrays)
    if "children" not in found:
        return found
    children = found.pop("children")
    check_array(children, "i", (None, 2), 0)
    steps = children - np.arange(len(children))[:, None]
    leaf = found["feature"] == _LEAF
    if not (leaf | (steps[:, 0] == 1)).all():
        raise ValueError("a node to the left does not come next")
    return {**found, "right": np.where(leaf, 0, steps[:, 1]).astype(np.int32)}


def fit_forest(x: Array, y: Array, *, trees: int, seed: int, rows_per_leaf: int = 2) -> Forest:
    """Grow extremely randomised trees (Geurts et al., 2006); deterministic.

    Args:
        x: rows, shape [n, columns].
        y: targets, shape [n, outputs].
        trees: how many.
        seed: of the random splits.
        rows_per_leaf: the fewest.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    # Two runs a leaf and four tenths of the columns a split did best on held-out runs of all corpora.
    grown = ExtraTreesRegressor(trees, min_samples_leaf=rows_per_leaf, max_features=0.4, random_state=seed)
    grown.fit(np.asarray(x, dtype=np.float32), y)
    parts = [estimator.tree_ for estimator in grown.estimators_]
    counts = [part.node_count for part in parts]
    roots = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int32)
    right, feature, threshold = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("children_right", "feature", "threshold")
    )
    number_in_tree = np.concatenate([np.arange(count) for count in counts])
    values = np.concatenate([part.value[:, :, 0] for part in parts])
    leaf = right == -1
    return Forest(
        roots=roots,
        feature=np.where(leaf, _LEAF, feature).astype(np.int16),
        threshold=_rounded_down(np.where(leaf, 0, threshold)),
        # scikit-learn grows depth first: the node to the left comes next.
        right=np.where(leaf, 0, right - number_in_tree).astype(np.int32),
        values=np.where(leaf[:, None], values, 0).astype(np.float32),
        importances=grown.feature_importances_.astype(np.float32),
    )


def _rounded_down(threshold: Array) -> NDArray[np.float32]:
    """In single precision, so that the same numbers of single precision are above it."""
    single = threshold.astype(np.float32)
    return np.where(single > threshold, np.nextafter(single, np.float32(-np.inf)), single)


@dataclass(frozen=True)
class ForestFamily(ModelFamily):
    """One forest for all outputs, on the movement of the graph, and on the learning curve if there is one.

    A linear model on the few numbers that rank runs on any data set is averaged with the forest, by a share
    that held-out runs choose: a forest cannot extrapolate beyond the data sets of its fit.
    """

    seed: int

    kinds = (WEIGHTS, WEIGHTS_AND_CURVE)
    reads_layers = True

    @property
    def statistics(self) -> Sequence[int]:
        """All of them."""
        return range(len(STATISTICS))

    @property
    def card_settings(self) -> dict[str, Any]:
        """Constants: cards of format 2 name the settings of both families."""
        return {
            "classifier": "forest",
            "regressor": "forest",
            "features": "both",
            "form": "plain",
            "scale": "relative",
        }

    def series(self, times: Iterable[float]) -> list[tuple[float, ...]]:
        """Each time with the one before it, and each epoch's end with the one before it."""
        ordered = sorted(times)
        found = set()
        for read in (ordered, epoch_ends(ordered)):
            found |= {*((time,) for time in read[:1]), *pairwise(read)}
        return sorted(found, key=lambda series: (series[-1], -len(series)))

    def row(self, history: HistoryByEpoch, times: Sequence[float], curve: LearningCurve | None) -> Array:
        """The linear model's numbers, if there is a curve; the graph's movement; the curve's numbers."""
        snapshots = [history[time] for time in (0.0, *times)]
        movement = graph_movement(snapshots, [snapshot.distances for snapshot in snapshots])
        if curve is None:
            return movement
        return np.concatenate([linear_row(curve, times), movement, curve_row(curve, times)])

    def fit(self, x: Array, targets: Targets, times: Sequence[float], kind: str) -> FittedModel:
        """A forest; and, where a curve is read, a linear model of the first columns."""
        width = linear_width(times) if kind == WEIGHTS_AND_CURVE else 0
        y = np.stack([targets.low.astype(np.float64), targets.accuracies, targets.relative], axis=1)
        forest = fit_forest(x[:, width:], y, trees=TREES, seed=self.seed)
        return _FittedForest(forest, width, _fit_ridge(x[:, :width], y) if width else None)

    def width(self, times: Sequence[float], kind: str) -> int:
        """The columns of `row`."""
        curve = linear_width(times) + curve_width(times) if kind == WEIGHTS_AND_CURVE else 0
        return len(movement_names()) + curve

    def restore(self, plain: Mapping[str, Any], times: Sequence[float], kind: str) -> FittedModel:
        """The inverse of `FittedModel.to_plain`."""
        forest, width, line = Forest.from_arrays(plain["forest"]), plain["width"], plain["line"]
        expected = linear_width(times) if kind == WEIGHTS_AND_CURVE else 0
        if type(width) is not int or width != expected or (line is None) != (width == 0):
            raise ValueError(f"its linear model reads {width!r} columns")
        if width + len(forest.importances) != self.width(times, kind):
            raise ValueError(f"its forest reads {len(forest.importances)} columns")
        check_array(forest.values, "f", (None, OUTPUTS), 0, 1)
        if line is not None:
            check_array(line, "f", (width + 1, OUTPUTS))
        return _FittedForest(forest, width, line)


class _FittedForest(FittedModel):
    """A forest, and a linear model (weights and, last, intercept) of the first `width` columns."""

    def __init__(self, forest: Forest, width: int, linear: Array | None) -> None:
        self.forest, self.width, self.linear = forest, width, linear
        self.importances = np.concatenate([np.zeros(width), forest.importances])

    def __call__(self, x: Array) -> tuple[Array, Array | None]:
        predicted = self.forest(x[:, self.width :])
        if self.linear is None:
            return predicted, None
        return predicted, np.clip(x[:, : self.width] @ self.linear[:-1] + self.linear[-1], 0, 1)

    def to_plain(self) -> dict[str, Any]:
        return {"forest": self.forest.to_arrays(), "width": self.width, "line": self.linear}


def _fit_ridge(x: Array, y: Array) -> Array:
    """Ridge regression on standardised columns; weights and, last, intercept: [columns + 1, outputs]."""
    centre, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    z = (x - centre) / spread
    weights = np.linalg.solve(z.T @ z + _RIDGE * np.eye(x.shape[1]), z.T @ (y - y.mean(axis=0)))
    weights = weights / spread[:, None]
    return np.vstack([weights, y.mean(axis=0) - centre @ weights])
