"""A small corpus of LeNet on digits, trained once for all tests of a process."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lightning_nndyn.corpus import GridPreset, RunRecord, load_digits_data, train_run
from lightning_nndyn.corpus.training.run_data import describe
from lightning_nndyn.evaluation import RunDataset

PRESET = GridPreset(
    "small", "lenet5", "digits", learning_rates=tuple(np.logspace(-4, -0.5, 12).tolist()),
    dropouts=(0.0, 0.3), crop_padding=1, flip=False, epochs=3, batch_size=32, low_threshold=0.5,
)  # fmt: skip


@pytest.fixture(scope="session")
def records() -> list[RunRecord]:
    data = load_digits_data()
    return [train_run(PRESET.config(index), data) for index in range(len(PRESET))]


@pytest.fixture(scope="session")
def manifest() -> dict[str, Any]:
    return {"settings": PRESET.settings(), "data": {"digits": describe(load_digits_data())}}


@pytest.fixture(scope="session")
def study(records: list[RunRecord], manifest: dict[str, Any]) -> RunDataset:
    return RunDataset.from_records(records, manifest)


@pytest.fixture(scope="session")
def mixed(records: list[RunRecord], manifest: dict[str, Any]) -> RunDataset:
    """The runs twice over: as they are, and as though another optimizer had trained them on other data."""
    twins = [
        replace(record, config=record.config | {"dataset": "cifar10", "optimizer": "adam", "seed": 1})
        for record in records
    ]
    both = manifest["data"] | {"cifar10": manifest["data"]["digits"]}
    return RunDataset.from_records([*records, *twins], manifest | {"data": both})
