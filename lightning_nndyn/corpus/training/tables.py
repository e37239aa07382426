"""Tables that scikit-learn ships or generates, reproducible from a seed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class TableSizes(NamedTuple):
    """Options of a generated table.

    Attributes:
        features: Columns, where the table does not fix them.
        classes: Number of classes, likewise.
        noise: How much the classes overlap, from 0 to 1.
    """

    features: int = 20
    classes: int = 3
    noise: float = 0.2


Table = tuple[np.ndarray, np.ndarray]
"""Features [n, features] and labels [n]."""


def make_table(name: str, count: int, sizes: TableSizes, seed: int) -> Table:
    """`count` rows of one of `MADE_TABLES`, in random order, the same for the same arguments."""
    return MADE_TABLES[name](count, sizes, seed)


def carried_table(name: str) -> Table:
    """One of `CARRIED_TABLES`, as scikit-learn ships it."""
    from sklearn import datasets

    loaders = {
        "breast_cancer": datasets.load_breast_cancer,
        "wine": datasets.load_wine,
        "digits_table": datasets.load_digits,
    }
    features, labels = loaders[name](return_X_y=True)
    return np.asarray(features), np.asarray(labels)


def _blobs(count: int, sizes: TableSizes, seed: int) -> Table:
    """Gaussian clusters at corners of a cube, two a class; most columns are uninformative."""
    informative = max(3, sizes.features // 3)
    return _made(
        "make_classification", n_samples=count, n_features=sizes.features, n_informative=informative,
        n_redundant=sizes.features // 5, n_classes=sizes.classes, n_clusters_per_class=2,
        flip_y=sizes.noise / 4, class_sep=1.5 - sizes.noise, random_state=seed,
    )  # fmt: skip


def _moons(count: int, sizes: TableSizes, seed: int) -> Table:
    return _made("make_moons", n_samples=count, noise=0.1 + sizes.noise / 2, random_state=seed)


def _circles(count: int, sizes: TableSizes, seed: int) -> Table:
    return _made("make_circles", n_samples=count, noise=0.05 + sizes.noise / 4, factor=0.5, random_state=seed)


def _quantiles(count: int, sizes: TableSizes, seed: int) -> Table:
    """Shells of a Gaussian; the class is the distance from its mean."""
    return _made(
        "make_gaussian_quantiles", n_samples=count, n_features=max(2, sizes.features // 4),
        n_classes=sizes.classes, random_state=seed,
    )  # fmt: skip


def _spirals(count: int, sizes: TableSizes, seed: int) -> Table:
    """As many arms as classes, wound about each other."""
    random = np.random.default_rng(seed)
    labels = random.integers(sizes.classes, size=count)
    way = np.sqrt(random.random(count))
    angle = 7 * way + 2 * np.pi * labels / sizes.classes
    points = np.stack([way * np.cos(angle), way * np.sin(angle)], 1)
    return points + random.normal(0, 0.02 + sizes.noise / 10, points.shape), labels


def _made(maker: str, **arguments: Any) -> Table:
    from sklearn import datasets

    features, labels = getattr(datasets, maker)(**arguments)
    order = np.random.default_rng(arguments["random_state"]).permutation(len(labels))
    return features[order], labels[order]


CARRIED_TABLES = ("breast_cancer", "wine", "digits_table")
MADE_TABLES: dict[str, Callable[[int, TableSizes, int], Table]] = {
    "blobs": _blobs,
    "moons": _moons,
    "circles": _circles,
    "quantiles": _quantiles,
    "spirals": _spirals,
}
