"""`nndyn sweep`: a sweep from a YAML file."""

import io
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from paths import EXAMPLES
from rich.console import Console
from typer.testing import CliRunner

from lightning_nndyn.cli import app
from lightning_nndyn.errors import SweepError
from lightning_nndyn.study.config import load_plan
from lightning_nndyn.study.killed_trials import retry_killed_trials, store_process
from lightning_nndyn.study.run import open_study

PLAN = """
train: script.py:train
trials: 6
space:
  learning_rate: {low: 1e-4, high: 1, log: true}
  width: {low: 8, high: 32, step: 8}
  optimizer: [sgd, adam]
"""

pytestmark = pytest.mark.needs("optuna")


class Drawn:
    """Stands for a trial: notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def __getattr__(self, kind: str) -> Any:
        def ask(name: str, *values: Any, **settings: Any) -> str:
            self.asked[name] = (kind, values, settings)
            return kind

        return ask


def written(folder: Path, text: str, script: str = "def train(params, callback):\n    return 0.5\n") -> Path:
    (folder / "script.py").write_text(script)
    (folder / "plan.yaml").write_text(text)
    return folder / "plan.yaml"


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
            assert self._place is not None
            rates.append(self._place._settings.max_false_stop_rate)

    monkeypatch.setattr(run, "GraphDynamicsCallback", Noted)
    for place, (callback, learner) in enumerate([("0.01", ""), ("0.01", "0.2"), ("0.0", "")]):
        folder = tmp_path / str(place)
        folder.mkdir()
        parts = f"callback: {{max_false_stop_rate: {callback}}}\n" + (
            f"learner: {{max_false_stop_rate: {learner}}}\n" if learner else ""
        )
        sweep(replace(load_plan(written(folder, f"{PLAN}\n{parts}")), trials=1))
    assert rates == [0.01, 0.2, 0.0]


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


def test_the_values_of_the_function_become_the_studys(tmp_path: Path) -> None:
    from lightning_nndyn.study import sweep

    script = "def train(params, callback):\n    return params['width'] / 32\n"
    study = sweep(load_plan(written(tmp_path, PLAN, script)))
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


def test_a_sweep_survives_being_killed(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "def train(params, callback):\n"
        "    with open('begun', 'a') as begun:\n"
        "        begun.write('.')\n"
        "    if os.path.getsize('begun') == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return 0.5\n"
    )
    plan = written(tmp_path, PLAN, script)
    command = [sys.executable, "-m", "lightning_nndyn.cli", "sweep", str(plan)]
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "6 of 6 runs: 6 finished" in done.stdout
    study = open_study(load_plan(plan))
    assert [trial.state.name for trial in study.trials] == [*["COMPLETE"] * 2, "FAIL", *["COMPLETE"] * 4]
    _, _, lost, again, *_ = study.trials
    assert again.params == lost.params and again.user_attrs["nndyn:again"] == lost.number
    assert "is gone" in lost.user_attrs["nndyn:reason"]


def test_what_kills_its_process_is_tried_twice(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "def train(params, callback):\n"
        "    if not os.path.exists('bad'):\n"
        "        open('bad', 'w').write(str(params))\n"
        "    if open('bad').read() == str(params):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return 0.5\n"
    )
    plan = written(tmp_path, PLAN, script)
    command = [sys.executable, "-m", "lightning_nndyn.cli", "sweep", str(plan)]
    codes = [subprocess.run(command, cwd=tmp_path, capture_output=True).returncode for _ in range(3)]
    assert codes == [-9, -9, 0]
    states = [trial.state.name for trial in open_study(load_plan(plan)).trials]
    assert states == ["FAIL"] * 2 + ["COMPLETE"] * 6


def test_what_another_process_trains_is_left_to_it(tmp_path: Path) -> None:
    study = open_study(load_plan(written(tmp_path, PLAN)))
    store_process(study.ask())
    study.ask()  # of a process that notes nothing
    elsewhere = study.ask()
    elsewhere.set_user_attr("nndyn:process", ["another-machine", 1, ""])
    alive = study.ask()
    alive.set_user_attr("nndyn:process", [socket.gethostname(), os.getppid(), ""])
    restarted = study.ask()
    restarted.set_user_attr("nndyn:process", [socket.gethostname(), os.getpid(), "of an earlier life"])
    retry_killed_trials(study)
    assert [trial.state.name for trial in study.trials] == ["RUNNING"] * 4 + ["FAIL"]


def test_the_table_shows_the_best_run_and_how_long_it_takes() -> None:
    from datetime import datetime, timedelta

    from lightning_nndyn.study.live_table import sweep_table

    def trial(number: int, state: str, value: float | None) -> Any:
        start = datetime(2026, 1, 1) + timedelta(seconds=10 * number)
        return SimpleNamespace(
            number=number,
            state=SimpleNamespace(name=state, is_finished=lambda: state != "RUNNING"),
            value=value,
            params={"lr": 0.0123},
            intermediate_values={0: 0.1, 2: 0.25},
            user_attrs={"nndyn:reason": "goes on"},
            datetime_start=start,
            datetime_complete=None if state == "RUNNING" else start + timedelta(seconds=10),
        )

    trials = [
        trial(0, "COMPLETE", 0.9),
        *(trial(n, "PRUNED", None) for n in range(1, 14)),
        trial(14, "RUNNING", None),
    ]
    console = Console(width=120, file=io.StringIO())
    console.print(sweep_table(trials, 20, "maximize"))
    text = console.file.getvalue()
    assert "* 0" in text and "lr 0.0123" in text and "0.25" in text
    assert "14 of 20 runs: 1 finished, 13 stopped; best 0.9 (run 0); about 0:01:00 left" in text


def test_the_example_stops_runs_that_learn_nothing(tmp_path: Path) -> None:
    for name in ("sweep.yaml", "sweep_digits.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    text = (tmp_path / "sweep_digits.py").read_text()
    (tmp_path / "sweep_digits.py").write_text(text.replace("EPOCHS = 12", "EPOCHS = 4"))
    text = (tmp_path / "sweep.yaml").read_text().replace("n_startup_trials: 8", "n_startup_trials: 6")
    (tmp_path / "sweep.yaml").write_text(text + "seed: 0\n")
    command = [sys.executable, "-m", "lightning_nndyn.cli", "sweep", "sweep.yaml", "--trials", "24"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "24 of 24 runs" in done.stdout
    assert "stopped" in done.stdout.splitlines()[-1]
    assert ", 0 stopped" not in done.stdout
