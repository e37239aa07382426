"""Trials that a scheduler pauses: python ray_paused_script.py FOLDER begin|restore

The driver is killed once so many trials have been begun or resumed; then the experiment is restored.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import paused_runs
import ray
import ray.train
import torch
from ray import tune

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.integrations.ray import GraphDynamicsScheduler, RayMember

RATES = (0.3, 0.03, 0.1, 1e-3)
RUNGS = ((1 / 4, 0.75), (1.0, 0.25))
api = tune if hasattr(tune, "RunConfig") else ray.train  # before Ray 2.43


def callback(trial: Any = None) -> GraphDynamicsCallback:
    return GraphDynamicsCallback(
        predictor=None, monitor="val_acc", trial=trial, action="observe", verbose=False, record=False
    )


def paused_trial(config: dict[str, Any]) -> None:
    """Notes whether it begins or goes on, and its final weights."""
    torch.set_num_threads(1)
    folder = Path(config["folder"])
    member = RayMember({"lr": config["rate"]}, metric="val_acc", checkpoints=True)
    with (folder / "begun").open("a") as file:
        file.write("r" if member.ckpt_path else ".")
    if (folder / "begun").stat().st_size == config["kills_at"]:
        os.kill(int((folder / "driver").read_text()), signal.SIGKILL)
        time.sleep(600)
    _, digest, _ = paused_runs.run({"rate": config["rate"]}, callback(member))
    with (folder / "ended").open("a") as file:
        file.write(f"{config['rate']} {digest}\n")


def tuner(folder: Path, kills_at: int = 0, callbacks: Any = ()) -> Any:
    space = {"rate": tune.grid_search(list(RATES)), "folder": str(folder), "kills_at": kills_at}
    about = api.RunConfig(
        storage_path=str(folder), name="experiment", verbose=0, callbacks=list(callbacks),
        failure_config=api.FailureConfig(max_failures=2),
        checkpoint_config=api.CheckpointConfig(num_to_keep=1),
    )  # fmt: skip
    settings = tune.TuneConfig(
        scheduler=GraphDynamicsScheduler(RUNGS), metric="val_acc", mode="max", reuse_actors=True
    )
    return tune.Tuner(paused_trial, param_space=space, run_config=about, tune_config=settings)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    if sys.argv[2] == "restore":
        tune.Tuner.restore(str(place / "experiment"), paused_trial, resume_errored=True).fit()
    else:
        (place / "driver").write_text(str(os.getpid()))
        tuner(place, kills_at=6).fit()
