"""A sweep under Ray Tune, on a Ray of its own. Its fourth trial kills the driver; or it is restored.

Usage: python ray_killed_script.py FOLDER begin|restore
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray import tune

from lightning_nndyn.integrations.ray import RayMember
from lightning_nndyn.sweep import Reading

TRIALS, KILLS = 6, 3
api = tune if hasattr(tune, "RunConfig") else ray.train  # before Ray 2.43


def trial(config: dict[str, Any]) -> None:
    """Notes how many ended runs it knows, and ends well."""
    folder, number = Path(config["folder"]), config["number"]
    member = RayMember({"number": number}, metric="val_acc")
    driver = folder / "driver"
    known = sorted(run.params["number"] for run in member.runs())
    member.report(Reading(1.0, (1.0,), (1.0, 1.0, 0.5, 0.5, 0.0)), {})
    if number == KILLS and driver.exists():
        pid = int(driver.read_text())
        driver.unlink()
        os.kill(pid, signal.SIGKILL)
        time.sleep(600)
    member.finish(False, "goes on")
    with (folder / "known.txt").open("a") as file:
        file.write(f"{number}: {known}\n")


if __name__ == "__main__":
    folder, name = Path(sys.argv[1]), "experiment"
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    if sys.argv[2] == "restore":
        tuner = tune.Tuner.restore(str(folder / name), trial, resume_errored=True)
    else:
        (folder / "driver").write_text(str(os.getpid()))
        space = {"number": tune.grid_search(list(range(TRIALS))), "folder": str(folder)}
        about = api.RunConfig(storage_path=str(folder), name=name, verbose=0)
        one = tune.TuneConfig(reuse_actors=True)  # a process for all trials: starting one takes seconds
        tuner = tune.Tuner(trial, param_space=space, run_config=about, tune_config=one)
    tuner.fit()
