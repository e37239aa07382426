"""The model of learning curves: what it reads, when it speaks, and that it loads nothing it should not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_nndyn.errors import ArtefactError
from lightning_nndyn.predictor import LearningCurve
from lightning_nndyn.predictor.curve_model import (
    INPUTS,
    CurveModel,
    curve_inputs,
    first_epoch,
    shipped_curve_model,
)
from lightning_nndyn.predictor.policy import Policy
from lightning_nndyn.predictor.verdict import CURVE

PLAN = 20


def curve(accuracies: list[float], losses: list[float] | None = None, classes: int = 10) -> LearningCurve:
    losses = losses or [2.3] * len(accuracies)
    read = {float(epoch): (loss, loss) for epoch, loss in enumerate(losses, start=1)}
    return LearningCurve(read, accuracies, classes)


STUCK = curve([0.1, 0.11, 0.1, 0.1, 0.11, 0.1, 0.1, 0.1])
LEARNS = curve([0.3, 0.42, 0.5, 0.55, 0.6, 0.63, 0.65, 0.66], [1.8, 1.5, 1.3, 1.2, 1.1, 1.0, 0.95, 0.9])


def test_a_run_that_is_stuck_and_one_that_learns() -> None:
    model = shipped_curve_model()
    policy = Policy({CURVE: model.max_risks_of_good_runs})
    stuck, learns = (model.predict(one, 8, PLAN) for one in (STUCK, LEARNS))
    assert stuck is not None and learns is not None
    assert stuck.kind == learns.kind == CURVE and stuck.epoch == 8
    assert stuck.p_low > 0.9 > 0.2 > learns.p_low
    assert learns.predicted_accuracy > 0.5 > stuck.predicted_accuracy
    assert policy.decide([stuck]).stop and not policy.decide([learns]).stop
    assert "stops at most 5 % of good runs" in policy.decide([stuck]).reason


@pytest.mark.parametrize(
    ("one", "epoch", "planned"),
    [
        (STUCK, 8, None),
        (STUCK, 8, -1.0),
        (STUCK, 8, math.inf),
        (STUCK, 4, PLAN),  # early in the plan
        (STUCK, 8, 101),
        (STUCK, 8, 3),
        (STUCK, 9, PLAN),  # an accuracy is missing
        (replace(STUCK, accuracies=[*STUCK.accuracies[:7], math.nan]), 8, PLAN),
        (replace(STUCK, losses={8.0: (2.3, 2.3)}), 8, PLAN),
        (replace(STUCK, losses={**STUCK.losses, 3.0: (math.nan, 1.0)}), 8, PLAN),
        (curve([0.3] * 8, [147.0] * 8), 8, PLAN),  # summed over the batch
    ],
)
def test_it_is_silent_where_it_cannot_read(one: LearningCurve, epoch: int, planned: Any) -> None:
    assert shipped_curve_model().predict(one, epoch, planned) is None


@pytest.mark.parametrize(("planned", "first"), [(3, 1), (4, 1), (8, 2), (9, 3), (50, 13)])
def test_it_speaks_from_a_quarter_of_the_plan_on(planned: int, first: int) -> None:
    assert first_epoch(planned) == first


def test_its_inputs_are_those_of_their_names() -> None:
    numbers = dict(
        zip(INPUTS, curve_inputs(curve([0.1, 0.55, 0.19, 0.28], [2.0, 1.5, 1.0, 1.2]), 4, 16), strict=True)
    )
    guess = math.log(10)
    wanted = {
        "accuracy": 0.2,
        "best accuracy": 0.5,
        "last gain": 0.1,
        "gain since halfway": 0.0,
        "first accuracy": 0.0,
        "gain since the first": 0.5,
        "share of epochs since the best": 0.5,
        "spread of the last accuracies": float(np.std([0, 0.5, 0.1, 0.2])),
        "loss": 1.2 / guess,
        "least loss": 1.0 / guess,
        "loss's fall since the first": 0.8 / guess,
        "loss's last fall": -0.2 / guess,
        "loss's fall since halfway": 0.3 / guess,
        "share of the plan": 0.25,
        "log planned epochs": math.log(16),
        "log classes": guess,
    }
    assert {name: numbers[name] for name in wanted} == pytest.approx(wanted)


def test_later_epochs_do_not_change_what_was_said() -> None:
    model = shipped_curve_model()
    longer = curve([*STUCK.accuracies, 0.9, 0.95])
    assert model.predict(longer, 8, PLAN) == model.predict(STUCK, 8, PLAN)


def test_it_is_what_was_saved(tmp_path: Path) -> None:
    model, file = shipped_curve_model(), tmp_path / "curve.npz"
    model.save(file)
    again = CurveModel.load(file)
    assert again.max_risks_of_good_runs == model.max_risks_of_good_runs
    assert again.predict(LEARNS, 8, PLAN) == model.predict(LEARNS, 8, PLAN)


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": np.array(["accuracy"])},
        {"risk": np.array([0.0, 0.0])},
        {"risk": np.array([np.nan, 1.0])},
        {"good_risks": np.array([np.inf])},
        {"group_sizes": np.array([3])},
        {"planned_epochs": np.array([-1.0, 50.0])},
        {"roots": None},
        {"importances": np.ones(3, dtype=np.float32)},
        {"more": np.ones(3)},
        {"values": np.array(["text"], dtype=object)},
    ],
)
def test_a_file_that_no_fit_gives_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = tmp_path / "curve.npz"
    shipped_curve_model().save(file)
    with np.load(file) as read:
        arrays = {name: read[name] for name in read.files}
    arrays = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez(file, **arrays)
    with pytest.raises(ArtefactError, match="no model of learning curves"):
        CurveModel.load(file)


@pytest.mark.parametrize("length", [0, 100, -100])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    file = tmp_path / "curve.npz"
    shipped_curve_model().save(file)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ArtefactError, match="no model of learning curves"):
        CurveModel.load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="nowhere"):
        CurveModel.load(tmp_path / "nowhere.npz")
