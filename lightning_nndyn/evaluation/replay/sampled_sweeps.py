"""Recorded runs as a sweep meets them, and random sweeps drawn from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.evaluation.cache import Source
from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.predictor import LearningCurve
from lightning_nndyn.signature.snapshot import Snapshot

MIN_RUNS = 20
"""Fewer runs on one data set make no sweep."""


@dataclass(frozen=True, eq=False)
class ReplayRun:
    """A run that was trained to its end.

    Attributes:
        index: among the runs of its corpus.
        curve: validation accuracy after each epoch; None where there was none. The last value of a run that
            diverged may be of a part of an epoch.
        epochs: it was trained for; a fraction where it diverged within an epoch.
        accuracy: the best one, a fraction.
        good: whether it is not low by the corpus' threshold.
        trainable: see `RunDataset`.
        config: its settings, as in a `RunRecord`.
        history: its snapshots, as a predictor reads them.
        learning_curve: losses and accuracies, as a predictor reads them.
    """

    index: int
    curve: Sequence[float | None]
    epochs: float
    accuracy: float
    good: bool
    trainable: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Snapshot] = ()
    learning_curve: LearningCurve | None = None

    @property
    def dataset(self) -> str:
        """The data set that it was trained on."""
        return str(self.config["dataset"])

    def best_until(self, epochs: float) -> float:
        """The best accuracy that is seen when the run is ended after so many epochs, a fraction."""
        if epochs >= self.epochs:
            return self.accuracy
        return best_before(self.curve, epochs)


def best_before(curve: Sequence[float | None], epochs: float) -> float:
    """The best accuracy that a curve shows after so many epochs; 0 before the first one."""
    return max((value for value in curve[: int(epochs)] if value is not None), default=0.0)


@lru_cache(maxsize=1)
def corpus_runs(source: Source) -> tuple[RunDataset, list[ReplayRun]]:
    """The runs of a corpus as predictors are fitted to them, and in the same order as sweeps meet them.

    Those of the last corpus stay in memory.

    Raises:
        CorpusError: it cannot be read.
        MissingExtraError: it is a parquet file and pyarrow is not installed.
        PredictorError: it has no runs.
    """
    dataset = RunDataset.load(source.path)
    runs = [
        ReplayRun(
            index=index,
            curve=record.curve["test_accuracy"],
            epochs=trained_epochs(record),
            accuracy=float(dataset.accuracies[index]),
            good=not dataset.low[index],
            trainable=bool(dataset.trainable[index]),
            config=record.config,
            history=dataset.histories[index],
            learning_curve=dataset.curves[index],
        )
        for index, record in enumerate(dataset.records)
    ]
    return dataset, runs


def trained_epochs(record: RunRecord) -> float:
    """How long a run was trained; a fraction where it diverged within an epoch."""
    epochs = float(len(record.curve["test_accuracy"]))
    return epochs if record.diverged_epoch is None else min(record.diverged_epoch, epochs)


def sampled_sweeps(
    runs: Sequence[ReplayRun], band: str, count: int, size: int, seed: int
) -> list[list[ReplayRun]]:
    """Random sweeps, each of runs on one data set, with the data sets in turn.

    Args:
        runs: of a corpus.
        band: "all", or "trainable" for these only.
        count: number of sweeps.
        size: runs in a sweep, drawn without replacement; all of them where there are fewer.
        seed: of the draws; the same arguments give the same sweeps.

    Returns:
        The sweeps; none where no data set has 20 runs.
    """
    chosen = [run for run in runs if band == "all" or run.trainable]
    counts = Counter(run.dataset for run in chosen)
    datasets = sorted(name for name, number in counts.items() if number >= MIN_RUNS)
    if not datasets:
        return []
    sweeps = []
    for number in range(count):
        among = [run for run in chosen if run.dataset == datasets[number % len(datasets)]]
        order = np.random.default_rng([seed, number]).permutation(len(among))[:size]
        sweeps.append([among[index] for index in order])
    return sweeps
