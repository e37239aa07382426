"""What the trials of test_sweep_ray.py train."""

from __future__ import annotations

from typing import Any

import torch
from callback_runs import trainer
from sweep_runs import EPOCHS, Perceptron, joined

from lightning_nndyn.integrations.ray import RayMember
from lightning_nndyn.sweep import SweepPredictor

STARTUP = 8


def trial(config: dict[str, Any]) -> None:
    """A perceptron on digits."""
    torch.set_num_threads(1)
    member = RayMember({"lr": config["lr"]}, metric="val_acc", sweep=config["sweep"])
    callback = joined(
        member,
        action=config["action"],
        sweep=SweepPredictor(n_startup_trials=STARTUP, max_false_stop_rate=0.2),
        record=False,
    )
    trainer(callback, max_epochs=EPOCHS).fit(Perceptron(config["lr"], seed=config["number"]))
