"""Trials of killed processes are found and tried again."""

import os
import socket
from pathlib import Path

import pytest
from paths import SUPPORT
from sweep_plans import PLAN, written
from warm_processes import run_warm

from lightning_nndyn.study.config import load_plan
from lightning_nndyn.study.killed_trials import retry_killed_trials, store_process
from lightning_nndyn.study.run import open_study

pytestmark = pytest.mark.needs("optuna")


def swept(plan: Path, times: int) -> tuple[list[int], str]:
    """How several processes of `nndyn sweep` have ended, one after the other, and what they have printed."""
    ended = [run_warm(SUPPORT / "command_script.py", "sweep", plan, folder=plan.parent) for _ in range(times)]
    return [code for code, _ in ended], "".join(said for _, said in ended)


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
    codes, said = swept(plan, 2)
    assert codes == [-9, 0] and "6 of 6 runs: 6 finished" in said
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
    codes, _ = swept(plan, 3)
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
