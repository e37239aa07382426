"""A small corpus of LeNet on digits, trained once for all tests."""

from dataclasses import replace
from typing import Any

import pytest
from tiny_corpus import SMALL, small_corpus

from lightning_nndyn.corpus import RunRecord, load_digits_data
from lightning_nndyn.corpus.training.run_data import describe
from lightning_nndyn.evaluation import RunDataset


@pytest.fixture(scope="session")
def records() -> list[RunRecord]:
    return small_corpus()


@pytest.fixture(scope="session")
def manifest() -> dict[str, Any]:
    return {"settings": SMALL.settings(), "data": {"digits": describe(load_digits_data())}}


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
