"""Runs and readings of a sweep."""

from __future__ import annotations

import pytest

from lightning_nndyn.sweep import Reading, SweepReading


def test_readings_survive_a_storage() -> None:
    for reading in (Reading(0.25, (1.0, 2.5), (0.1,), 0.7), Reading(1.0)):
        assert Reading.from_dict(reading.to_dict()) == reading


def test_names_of_earlier_releases_work_and_warn() -> None:
    with pytest.warns(DeprecationWarning, match="'known' is now called 'prior_prediction'"):
        old = Reading(1.0, known=0.5)  # type: ignore[call-arg]
    assert old == SweepReading(1.0, prior_prediction=0.5) and old.to_dict()["known"] == 0.5
