"""Runs of LeNet and of perceptrons on digits, and their rows, once for all tests of a process."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paper_material import CHOSEN, CORPUS
from perceptron_corpus import write_corpus

from lightning_nndyn.evaluation import Row, RunDataset
from lightning_nndyn.evaluation.paper import (
    paper_rows,
    unseen_rows,
)
from lightning_nndyn.evaluation.paper.features import (
    without_raw_material,
)


@pytest.fixture(scope="session")
def study() -> RunDataset:
    """LeNet on digits: every sixth of the shipped runs."""
    return without_raw_material(RunDataset.load(CORPUS).take(np.arange(0, 480, 6)))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Multi-layer perceptrons on digits: another network on the same data."""
    return write_corpus(tmp_path_factory.mktemp("corpora") / "mlp-digits", width=32, epochs=2)


@pytest.fixture(scope="session")
def perceptrons(corpus: Path) -> RunDataset:
    return without_raw_material(RunDataset.load(corpus))


@pytest.fixture(scope="session")
def rows(study: RunDataset, perceptrons: RunDataset) -> list[Row]:
    settings: Any = {"methods": CHOSEN, "times": [1.0], "seed": 0}
    return [*paper_rows(study, **settings), *unseen_rows([study, perceptrons], **settings)]
