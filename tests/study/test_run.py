"""`nndyn sweep`: a sweep from a YAML file."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paths import EXAMPLES, SUPPORT
from sweep_plans import PLAN, written
from typer.testing import CliRunner
from warm_processes import run_warm

from lightning_nndyn.cli import app
from lightning_nndyn.errors import SweepError
from lightning_nndyn.study.config import load_plan
from lightning_nndyn.study.run import open_study

pytestmark = pytest.mark.needs("optuna")


def test_a_seed_gives_each_trial_draws_of_its_own_wherever_they_are_made(tmp_path: Path) -> None:
    """A sweep that is cut draws what it would have drawn; so do two processes side by side."""
    from lightning_nndyn.study import sweep

    def drawn(folder: str, *trials: int) -> list[Any]:
        (tmp_path / folder).mkdir()
        plan = load_plan(written(tmp_path / folder, f"{PLAN}\nseed: 3\n"))
        for wanted in trials:
            study = sweep(replace(plan, trials=wanted))
        return [trial.params for trial in study.trials]

    whole = drawn("whole", 14)
    assert drawn("cut", 3, 12, 14) == whole
    assert len({params["learning_rate"] for params in whole}) == 14
    studies = [open_study(load_plan(tmp_path / "whole" / "plan.yaml")) for _ in range(2)]
    plan = load_plan(tmp_path / "whole" / "plan.yaml")
    assert len({plan.suggest(study.ask())["learning_rate"] for study in studies}) == 2


def test_the_callbacks_false_stop_rate_is_the_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_nndyn.study import run, sweep

    rates: list[Any] = []

    class Noted(run.GraphDynamicsCallback):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            assert self._trial is not None
            rates.append(self._trial.template.max_false_stop_rate)

    monkeypatch.setattr(run, "GraphDynamicsCallback", Noted)
    for place, (callback, learner) in enumerate([("0.01", ""), ("0.01", "0.2"), ("0.0", "")]):
        folder = tmp_path / str(place)
        folder.mkdir()
        parts = f"callback: {{max_false_stop_rate: {callback}}}\n" + (
            f"learner: {{max_false_stop_rate: {learner}}}\n" if learner else ""
        )
        sweep(replace(load_plan(written(folder, f"{PLAN}\n{parts}")), trials=1))
    assert rates == [0.01, 0.2, 0.0]


def test_the_values_of_the_function_become_the_studys(tmp_path: Path) -> None:
    from lightning_nndyn.study import sweep

    script = "def train(params, callback):\n    return params['width'] / 32\n"
    with pytest.warns(DeprecationWarning, match="'plan' is now called 'config'"):
        study = sweep(plan=load_plan(written(tmp_path, PLAN, script)))  # type: ignore[call-arg]
    assert len(study.trials) == 6
    assert all(trial.value == trial.params["width"] / 32 for trial in study.trials)


def test_a_failed_run_is_noted_and_the_others_go_on(tmp_path: Path) -> None:
    from lightning_nndyn.study import sweep

    script = (
        "calls = []\n"
        "def train(params, callback):\n"
        "    calls.append(params)\n"
        "    if len(calls) == 2:\n"
        "        raise ValueError('out of memory')\n"
        "    return 0.5\n"
    )
    study = sweep(load_plan(written(tmp_path, PLAN, script)))
    failed = [trial for trial in study.trials if trial.state.name == "FAIL"]
    assert [trial.number for trial in failed] == [1]
    assert failed[0].user_attrs["nndyn:reason"] == "ValueError: out of memory"
    assert len(study.trials) == 6


def test_a_sweep_whose_runs_all_fail_ends(tmp_path: Path) -> None:
    from lightning_nndyn.study import sweep

    plan = load_plan(written(tmp_path, PLAN, "def train(params, callback):\n    return 'good'\n"))
    with pytest.raises(SweepError, match=r"all of the first 3 runs failed.*returned 'good'"):
        sweep(plan)


def test_a_sweep_goes_on_with_what_it_has(tmp_path: Path) -> None:
    plan = written(tmp_path, PLAN)
    for wanted, message in (("4", "4 of 4 runs"), ("6", "6 of 6 runs"), ("6", "6 of 6 runs")):
        done = CliRunner().invoke(app, ["sweep", str(plan), "--trials", wanted])
        assert done.exit_code == 0, done.output
        assert message in done.output


def test_the_example_stops_runs_that_learn_nothing(tmp_path: Path) -> None:
    for name in ("sweep.yaml", "sweep_digits.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    text = (tmp_path / "sweep_digits.py").read_text()
    (tmp_path / "sweep_digits.py").write_text(text.replace("EPOCHS = 12", "EPOCHS = 4"))
    text = (tmp_path / "sweep.yaml").read_text().replace("n_startup_trials: 8", "n_startup_trials: 6")
    (tmp_path / "sweep.yaml").write_text(text + "seed: 0\n")
    command = SUPPORT / "command_script.py", "sweep", "sweep.yaml", "--trials", 24
    code, said = run_warm(*command, folder=tmp_path)
    assert code == 0 and "24 of 24 runs" in said, said
    assert "stopped" in said.splitlines()[-1]
    assert ", 0 stopped" not in said
