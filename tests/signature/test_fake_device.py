"""Readings on a device other than the CPU, a fake one: how often they wait, and what if it has no float64."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_device import SUPPORTED
from processes import run_script

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="this torch knows no devices written in Python")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("device")
    run_script("fake_device_script.py", folder)
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize(("has_float64", "copies"), [(True, 1), (False, 2)], ids=["float64", "none"])
def test_a_reading_copies_its_numbers_or_each_layer_once_and_nothing_to_the_device(
    found: Any, has_float64: bool, copies: int
) -> None:
    read = found[str(has_float64)]["weights"]
    assert len(read["to_host"]) == copies and read["to_device"] == []  # there are two layers
    first, second, expected = read["statistics"]
    assert first == pytest.approx(expected, rel=1e-3) and second == pytest.approx(first, rel=1e-3)
    assert read["distances"] == [0.0, 0.0]


@pytest.mark.parametrize("has_float64", [True, False])
def test_losses_are_averaged_there_without_a_copy(found: Any, has_float64: bool) -> None:
    read = found[str(has_float64)]["losses"]
    assert read["copies"] == [] and read["read"][0] == pytest.approx(read["mean"], rel=1e-5)
