"""Runs of sweeps with random readings."""

from __future__ import annotations

import numpy as np

from lightning_nndyn.signature.relative import movement_names
from lightning_nndyn.sweep import Reading, SweepRun

NUM_WEIGHTS = sum(name.endswith(":start") for name in movement_names())


def random_runs(count: int, time: float = 1.0, seed: int = 0) -> list[SweepRun]:
    rng = np.random.default_rng(seed)
    return [
        SweepRun(
            {"lr": float(10 ** rng.uniform(-4, 0)), "optimizer": str(rng.choice(["sgd", "adam"]))},
            [
                Reading(
                    time, tuple(rng.normal(size=NUM_WEIGHTS)), tuple(rng.normal(size=5 if time >= 1 else 2))
                )
            ],
        )
        for _ in range(count)
    ]
