"""Made-up sweeps, and runs of sweeps with random readings."""

from __future__ import annotations

import numpy as np

from lightning_nndyn.evaluation.cohort import RecordedSweep
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


TIMES = (0.25, 1.0, 2.0)
"""Of the readings of a made-up sweep, in epochs."""


def made_up_sweep(seed: int, family: str = "mlp", dataset: str = "digits") -> RecordedSweep:
    """24 runs of eight epochs; from the first one on, the metric shows nearly the final value."""
    rng = np.random.default_rng(seed)
    runs = []
    for early in random_runs(24, 0.25, seed):
        value = float(rng.uniform(0.1, 0.9))
        seen = value - 0.05 * abs(rng.normal())
        late = [Reading(time, (), (-value, -value, seen, seen, 0.0)) for time in TIMES[1:]]
        params = {"learning_rate": early.params["lr"], "optimizer": "sgd"}
        runs.append(SweepRun(params, [*early.readings, *late], value))
    return RecordedSweep(
        name=f"made-up-{seed}",
        corpus="made-up",
        family=family,
        dataset=dataset,
        records=[None] * 24,  # type: ignore[list-item]
        epochs=[8.0] * 24,
        curves=[[run.readings[1].curve[2]] * 7 + [run.value] for run in runs],
        runs=runs,
        is_grid=False,
        number=seed,
    )
