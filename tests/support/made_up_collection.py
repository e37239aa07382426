"""A corpus of made-up runs, with all that evaluation asks of one."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np
from synthetic_runs import runs

from lightning_nndyn.evaluation.dataset import Collection
from lightning_nndyn.predictor import TrainingSetup
from lightning_nndyn.predictor.low_accuracy import relative_accuracies


def made_up(name: str, seed: int, count: int = 100, dataset: str = "digits") -> Collection:
    histories, accuracies, curves = runs(seed, count)
    populations = np.full(count, f"{name} on {dataset}")
    truth = np.array(accuracies)
    return Collection(
        name=name,
        records=[SimpleNamespace(config={"dataset": dataset})] * count,  # type: ignore[list-item]
        histories=histories,
        curves=curves,
        accuracies=truth,
        configurations=[f"{name} {place}" for place in range(count)],
        populations=populations,
        trainings=[TrainingSetup(30, "sgd")] * count,
        relative=relative_accuracies(truth, populations, np.full(count, 0.1)),
        thresholds={str(populations[0]): 0.5},
    )


@cache
def three() -> tuple[Collection, ...]:
    return tuple(made_up(name, seed, dataset=name) for seed, name in enumerate(("one", "two", "three")))
