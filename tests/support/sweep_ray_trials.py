"""What the trials of test_ray.py train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from backend_tasks import wait_for
from callback_runs import trainer
from sweep_runs import EPOCHS, Perceptron, joined

from lightning_nndyn.integrations.ray import RayMember
from lightning_nndyn.sweep import SweepPredictor

STARTUP = 8


def trial(config: dict[str, Any]) -> None:
    """A perceptron on digits."""
    torch.set_num_threads(1)
    meet(config["number"], config.get("meeting"))
    member = RayMember({"lr": config["lr"]}, metric="val_acc", sweep=config["sweep"])
    callback = joined(
        member,
        action=config["action"],
        sweep=SweepPredictor(n_startup_trials=STARTUP, max_false_stop_rate=0.2),
        record=False,
    )
    trainer(callback, max_epochs=EPOCHS).fit(Perceptron(config["lr"], seed=config["number"]))


def meet(number: int, place: str | None) -> None:
    """Trials 0 and 1, then 2 and 3, begin only together: each of two nodes has two trials at least."""
    if place and number < 4:
        Path(place, str(number)).touch()
        wait_for(Path(place, str(number ^ 1)))
