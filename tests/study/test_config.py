"""The YAML file of a sweep."""

from pathlib import Path
from typing import Any

import pytest
from sweep_plans import PLAN, written

from lightning_nndyn.errors import SweepError
from lightning_nndyn.study.config import load_plan


class Drawn:
    """Stands for a trial: notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def __getattr__(self, kind: str) -> Any:
        def ask(name: str, *values: Any, **settings: Any) -> str:
            self.asked[name] = (kind, values, settings)
            return kind

        return ask


def test_a_plan_suggests_what_its_space_says(tmp_path: Path) -> None:
    drawn = Drawn()
    load_plan(written(tmp_path, PLAN)).suggest(drawn)
    assert drawn.asked == {
        "learning_rate": ("suggest_float", (1e-4, 1.0), {"step": None, "log": True}),
        "width": ("suggest_int", (8, 32), {"step": 8, "log": False}),
        "optimizer": ("suggest_categorical", (["sgd", "adam"],), {}),
    }


def test_numbers_and_steps_are_what_they_look_like(tmp_path: Path) -> None:
    """YAML 1.1 takes 1e-4 for a text. Parts without content are left out."""
    space = "{decay: [0, 1e-4, 3E-3], name: [1e, e5, 1e-4x], width: {low: 0, high: 10, step: 2.5}}"
    drawn = Drawn()
    plan = load_plan(written(tmp_path, f"train: script.py:train\nspace: {space}\ncallback:\nlearner:\n"))
    plan.suggest(drawn)
    assert drawn.asked == {
        "decay": ("suggest_categorical", ([0, 1e-4, 3e-3],), {}),
        "name": ("suggest_categorical", (["1e", "e5", "1e-4x"],), {}),
        "width": ("suggest_float", (0.0, 10.0), {"step": 2.5, "log": False}),
    }
    assert plan.callback == plan.learner == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("train: script.py:train", ""), "lacks train"),
        (("step: 8", "step: 0"), "step: 0 leads nowhere"),
        (("step: 8", "step: small"), "step: 'small' is no number"),
        (("trials: 6", "callback: universal"), "callback: 'universal' is no mapping"),
        (("trials: 6", "learner: [0.1]"), "learner: [0.1] is no mapping"),
        (("trials: 6", "tirals: 6"), "unknown key 'tirals'"),
        (("trials: 6", "trials: 0"), "trials: 0"),
        (("low: 8", "low: 64"), "from 64 to 32 is no range"),
        (("low: 1e-4", "low: 0"), "on a logarithmic scale"),
        (("low: 1e-4", "low: little"), "low: 'little' is no number"),
        (("[sgd, adam]", "sgd"), "neither a list of choices nor a range"),
        (("trials: 6", "direction: up"), "neither maximize nor minimize"),
        (("trials: 6", "trials: [6"), "cannot be read as YAML"),
        (("script.py:train", "script.py:trian"), "no function 'trian'"),
        (("script.py:train", "missing.py:train"), "names no file"),
    ],
)
def test_a_wrong_plan_is_refused_with_what_is_wrong(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    plan = written(tmp_path, PLAN.replace(*change))
    with pytest.raises(SweepError, match=message.replace("[", r"\[")):
        load_plan(plan).train_function()
