"""Made-up corpora: what evaluation reads of one, without training anything."""

from __future__ import annotations

from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
from synthetic_runs import runs

from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.predictor import TrainingSetup
from lightning_nndyn.predictor.low_accuracy import relative_accuracies


class MadeUpDataset(RunDataset):
    """Its records carry histories and curves as a predictor reads them."""

    @cached_property
    def histories(self) -> list[Any]:
        return [record.history for record in self.records]

    @cached_property
    def curves(self) -> list[Any]:
        return [record.learning_curve for record in self.records]


def made_up(name: str, seed: int, count: int = 100, dataset: str = "digits") -> RunDataset:
    histories, accuracies, curves = runs(seed, count)
    populations = np.full(count, f"{name} on {dataset}")
    truth = np.array(accuracies)
    return MadeUpDataset(
        name=name,
        records=[
            SimpleNamespace(
                config={"dataset": dataset, "run": f"{name} {index}"}, history=history, learning_curve=curve
            )  # type: ignore[misc]
            for index, (history, curve) in enumerate(zip(histories, curves, strict=True))
        ],
        accuracies=truth,
        thresholds=np.full(count, 0.5),
        trainable=np.full(count, True),
        populations=populations,
        relative=relative_accuracies(truth, populations, np.full(count, 0.1)),
        trainings=[TrainingSetup(30, "sgd")] * count,
    )


@cache
def three() -> tuple[RunDataset, ...]:
    return tuple(made_up(name, seed, dataset=name) for seed, name in enumerate(("one", "two", "three")))
