"""What the trials of a sweep on Ray share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("ray.tune")

from lightning_nndyn.integrations.ray_actor import SweepActor, decode_run, encode_run, flat_params
from lightning_nndyn.sweep import Reading, SweepRun

pytestmark = pytest.mark.needs("ray")


def test_what_has_ended_is_read_again_as_it_was(tmp_path: Path) -> None:
    readings = (Reading(0.25, (1.5, -2.0), (0.5,), 0.75), Reading(1.0, (3.0, 4.0), (0.5, 0.25)))
    audited = SweepRun({"lr": 0.1}, readings, 0.5, weight=20.0)
    stopped = SweepRun({"lr": 0.2}, readings, stopped=True)
    first = SweepActor(str(tmp_path / "journal"))
    for name, run in (("a", audited), ("b", stopped), ("a", stopped)):
        first.add(name, encode_run(run))
    again = [decode_run(run) for run in SweepActor(str(tmp_path / "journal")).since(0)]
    assert again == [decode_run(run) for run in first.since(0)]
    assert replace(again[0], readings=tuple(again[0].readings)) == audited
    assert again[1].stopped and not again[1].readings


def test_what_can_be_learned_from_a_configuration() -> None:
    config = {"lr": torch.tensor(0.5), "net": {"width": 8, "act": None}, "sizes": [1, 2], "data": object()}
    assert flat_params(config) == {"lr": 0.5, "net/width": 8, "net/act": None, "sizes": "[1, 2]"}
