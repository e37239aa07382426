"""What is fitted at each decision time: our forests, or the paper's estimators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.predictor.estimators import (
    Classifier,
    Regressor,
    decision_values,
    fit_classifier,
    fit_regressor,
    predicted_accuracies,
)
from lightning_nndyn.predictor.features import Array, Features, Mask, Table, readings
from lightning_nndyn.predictor.forest import Forest, fit_forest
from lightning_nndyn.predictor.learning_curve import Curve, curve_row, line_row, line_width
from lightning_nndyn.signature.relative import graph_movement

OUTPUTS = ("low", "accuracy", "relative")
"""Columns of what a fitted pair of models gives: a value that is larger for low runs, and two fractions."""

_RIDGE = 1.0


class Targets(NamedTuple):
    """What became of runs: low or not, final accuracy, that as a share of the best, and where; shape [n]."""

    low: Mask
    accuracies: Array
    relative: Array
    populations: NDArray[np.str_]

    def take(self, chosen: Any) -> Targets:
        """Some of the runs."""
        return Targets(*(values[chosen] for values in self))


class Fitted(ABC):
    """Models of one decision time."""

    importances: Array | None = None
    """What each column of a row tells, shape [columns]; None where that is not known."""

    @abstractmethod
    def __call__(self, x: Array) -> tuple[Array, Array | None]:
        """Predictions [n, 3] for rows, see `OUTPUTS`; and a second opinion, where there is one."""

    @abstractmethod
    def to_plain(self) -> dict[str, Any]:
        """What `Recipe.restored` makes the same object of."""


class Recipe(ABC):
    """How snapshots and curve become a row of numbers, and what learns from the rows."""

    curves = False
    """Whether there are models that read curves as well."""

    @abstractmethod
    def readings(self, times: Iterable[float]) -> list[tuple[float, ...]]:
        """The series of snapshot times that get models of their own; the last of each is its decision's."""

    @abstractmethod
    def row(self, table: Table, times: Sequence[float], curve: Curve | None) -> Array:
        """What is read of a run; shape [d]."""

    def line_columns(self, times: Sequence[float], fused: bool) -> int:
        """How many of a row's first columns are for a straight line."""
        return 0

    @abstractmethod
    def fit(self, x: Array, targets: Targets, line: int) -> Fitted:
        """Fit to rows [n, d], the first `line` columns for a straight line."""

    @abstractmethod
    def restored(self, plain: Mapping[str, Any]) -> Fitted:
        """The inverse of `Fitted.to_plain`."""


@dataclass(frozen=True)
class ForestRecipe(Recipe):
    """Forests on the movement of the graph, and on the curve where it is known.

    A straight line through the few numbers that rank runs on any data set is mixed in as far as held-out runs
    want it: a forest cannot go beyond the data sets that it knows.
    """

    trees: int
    seed: int
    curves = True

    def readings(self, times: Iterable[float]) -> list[tuple[float, ...]]:
        """Each time with the one before it; the epoch ends among themselves as well."""
        ordered = sorted(times)
        series = (ordered, [time for time in ordered if time == int(time)])
        found = {one[:1] for one in map(tuple, series) if one} | {
            pair for one in series for pair in pairwise(one)
        }
        return sorted(found, key=lambda pair: (pair[-1], -len(pair)))

    def row(self, table: Table, times: Sequence[float], curve: Curve | None) -> Array:
        """The line's numbers, if there is a curve; the graph's movement; the curve's numbers."""
        history = [table[time] for time in (0.0, *times)]
        moved = graph_movement(history, [snapshot.distances for snapshot in history])
        if curve is None:
            return moved
        return np.concatenate([line_row(curve, times), moved, curve_row(curve, times)])

    def line_columns(self, times: Sequence[float], fused: bool) -> int:
        """As many as `line_row` gives."""
        return line_width(times) if fused else 0

    def fit(self, x: Array, targets: Targets, line: int) -> Fitted:
        """One forest for all three outputs; the line beside it where a curve is read."""
        y = np.stack([targets.low.astype(np.float64), targets.accuracies, targets.relative], axis=1)
        forest = fit_forest(x[:, line:], y, trees=self.trees, seed=self.seed)
        return _Grown(forest, line, _fit_line(x[:, :line], y) if line else None)

    def restored(self, plain: Mapping[str, Any]) -> Fitted:
        """The inverse of `Fitted.to_plain`."""
        return _Grown(Forest.from_arrays(plain["forest"]), plain["width"], plain["line"])


class _Grown(Fitted):
    """A forest, and a line through the first columns."""

    def __init__(self, forest: Forest, width: int, line: Array | None) -> None:
        self.forest, self.width, self.line = forest, width, line
        self.importances = np.concatenate([np.zeros(width), forest.importances])

    def __call__(self, x: Array) -> tuple[Array, Array | None]:
        grown = self.forest(x[:, self.width :])
        if self.line is None:
            return grown, None
        return grown, np.clip(x[:, : self.width] @ self.line[:-1] + self.line[-1], 0, 1)

    def to_plain(self) -> dict[str, Any]:
        return {"forest": self.forest.to_arrays(), "width": self.width, "line": self.line}


def _fit_line(x: Array, y: Array) -> Array:
    """Ridge regression on standardised columns; its weights and, last, its offset: [columns + 1, outputs]."""
    centre, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    z = (x - centre) / spread
    weights = np.linalg.solve(z.T @ z + _RIDGE * np.eye(x.shape[1]), z.T @ (y - y.mean(axis=0)))
    weights = weights / spread[:, None]
    return np.vstack([weights, y.mean(axis=0) - centre @ weights])


@dataclass(frozen=True)
class PaperRecipe(Recipe):
    """The paper's statistics and kinds of model; it reads no curve and gives no relative accuracy."""

    features: Features
    classifier: Classifier
    regressor: Regressor
    seed: int

    def readings(self, times: Iterable[float]) -> list[tuple[float, ...]]:
        """Each prefix of all times, and of the epoch ends."""
        return readings(times)

    def row(self, table: Table, times: Sequence[float], curve: Curve | None) -> Array:
        """All snapshots one after the other."""
        return self.features.all_snapshots(table, times)

    def fit(self, x: Array, targets: Targets, line: int) -> Fitted:
        """A classifier on all snapshots; a regressor on the two latest if it is linear, else on all."""
        tail = 2 * len(self.features.columns) * (1 if self.features.scale == "raw" else 3)
        width = min(tail, x.shape[1]) if self.regressor == "linear" else x.shape[1]
        return _Estimators(
            fit_classifier(self.classifier, x, targets.low, self.seed),
            fit_regressor(self.regressor, x[:, -width:], targets.accuracies),
            width,
        )

    def restored(self, plain: Mapping[str, Any]) -> Fitted:
        """The inverse of `Fitted.to_plain`."""
        return _Estimators(**plain)


class _Estimators(Fitted):
    """Two of scikit-learn's pipelines; the regressor reads the last columns."""

    def __init__(self, classifier: Any, regressor: Any, width: int) -> None:
        self.classifier, self.regressor, self.width = classifier, regressor, width

    def __call__(self, x: Array) -> tuple[Array, Array | None]:
        accuracies = predicted_accuracies(self.regressor, x[:, -self.width :])
        unknown = np.full(len(x), np.nan)
        return np.stack([decision_values(self.classifier, x), accuracies, unknown], axis=1), None

    def to_plain(self) -> dict[str, Any]:
        return dict(vars(self))
