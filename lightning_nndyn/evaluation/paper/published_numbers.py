"""Numbers and claims that the paper prints, for comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.predictor.paper_models import Classifier, FeatureSet

Pair = tuple[int, int]
Subject = tuple[str, str]
"""A network and a data set, by the names that corpora have."""

TABLE_3: dict[Subject, dict[Pair, tuple[float, float]]] = {
    ("alexnet", "imagenet100"): {(3, 5): (4.10, 0.65), (5, 7): (3.96, 0.70), (7, 9): (2.70, 0.84)},
    ("lenet5", "imagenet100"): {
        (0, 3): (4.04, 0.30), (3, 5): (3.94, 0.34), (5, 7): (3.58, 0.46), (7, 9): (3.24, 0.54),
    },
    ("resnet50", "imagenet100"): {
        (0, 3): (7.99, 0.57), (3, 5): (8.36, 0.60), (5, 7): (8.02, 0.62), (7, 9): (7.49, 0.67),
    },
}  # fmt: skip
"""Regression on ImageNet-100, degree: mean absolute error in points and R2 by pair of epochs."""

TABLE_4: dict[Subject, dict[Pair, tuple[float, float]]] = {
    ("lenet5", "cifar10"): {
        (0, 2): (14.95, 0.16), (1, 3): (14.67, 0.30), (3, 5): (17.09, 0.67), (5, 7): (12.49, 0.75),
    },
    ("alexnet", "cifar10"): {
        (0, 2): (18.712, 0.62), (1, 3): (18.57, 0.66), (3, 5): (18.4, 0.59), (5, 7): (16.74, 0.66),
    },
    ("vgg7", "cifar10"): {
        (0, 2): (17.72, 0.62), (1, 3): (11.98, 0.81), (3, 5): (11.91, 0.81), (5, 7): (6.87, 0.94),
    },
    ("resnet44", "cifar10"): {
        (0, 2): (19.84, 0.60), (1, 3): (19.41, 0.62), (3, 5): (17.63, 0.67), (5, 7): (18.28, 0.68),
    },
}  # fmt: skip
"""Regression on CIFAR-10, degree. The table says ResNet; figure 4 suggests ResNet-44."""

PAIRS: tuple[Pair, ...] = tuple(
    sorted({pair for table in (TABLE_3, TABLE_4) for printed in table.values() for pair in printed})
)
"""All pairs of epochs of both tables."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper on the accuracy of classification.

    Attributes:
        where: part of the paper.
        subjects: networks and data sets that it is about.
        features: centrality whose statistics were the features.
        classifier: which one; None for the better one.
        epochs: epochs read.
        says: the accuracy, in the paper's words.
    """

    where: str
    subjects: tuple[Subject, ...]
    features: FeatureSet
    classifier: Classifier | None
    epochs: int
    says: str


_IMAGENET = (("lenet5", "imagenet100"), ("alexnet", "imagenet100"), ("resnet50", "imagenet100"))
CLAIMS = (
    Claim("abstract", (("lenet5", "cifar10"),), "degree", None, 5, "over 93 %"),
    Claim(
        "section 4.1", (("lenet5", "cifar10"), ("alexnet", "cifar10")), "degree", None, 15,
        "over 90 % in the first 6 to 15 iterations",
    ),
    Claim("introduction", (("resnet44", "cifar10"),), "degree", None, 5, "over 90 %"),
    Claim("figure 4", (("vgg7", "cifar10"), ("resnet44", "cifar10")), "degree", "svm", 5, "90 %"),
    Claim("section 4.1", (("vgg7", "cifar10"), ("alexnet", "cifar10")), "eigenvector", "mlp", 6, "~95 %"),
    Claim("observation 2", _IMAGENET, "degree", None, 10, "80 to 90 %"),
    Claim("observation 2", _IMAGENET, "eigenvector", None, 10, "80 to 90 %"),
)  # fmt: skip
"""Claims in the text, as the figures have no numbers."""


def subject_of(runs: RunDataset) -> Subject | None:
    """The network and data set of a corpus; None where it has several."""
    found = {_architecture(record.config) for record in runs.records}
    return found.pop()[:2] if len(found) == 1 else None


def _architecture(config: Mapping[str, Any]) -> tuple[str, str, str]:
    """A run's network, data set and network options, without dropout, which varies within a grid."""
    options = {name: value for name, value in config["network_options"].items() if name != "dropout"}
    return config["network"], config["dataset"], json.dumps(options, sort_keys=True)


def printed_regression(subject: Subject | None) -> tuple[str, dict[Pair, tuple[float, float]]] | None:
    """The number of the paper's table for a network on a data set, and its entries; None if there is none."""
    for number, table in (("3", TABLE_3), ("4", TABLE_4)):
        if subject in table:
            return number, table[subject]
    return None
