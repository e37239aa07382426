"""Recorded runs as a sweep meets them, and the sweeps that are drawn of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.corpus.storage.access import corpus_manifest
from lightning_nndyn.evaluation.benchmark.study import Study
from lightning_nndyn.evaluation.dataset import Collection
from lightning_nndyn.predictor import LearningCurve
from lightning_nndyn.signature.snapshot import Snapshot

FEWEST = 20
"""Runs on one data set that make a sweep."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run that was trained to its end.

    Attributes:
        place: among its corpus' runs.
        record: all that is known of it.
        history: its snapshots, as a predictor reads them.
        logged: its losses and accuracies, as a predictor reads them.
        epochs: it was trained for; a fraction where it diverged within an epoch.
        accuracy: its best, a fraction.
        good: whether it is not low by its corpus' bar.
        trainable: whether it did not diverge and is twice as good as guessing.
    """

    place: int
    record: RunRecord
    history: Sequence[Snapshot]
    logged: LearningCurve
    epochs: float
    accuracy: float
    good: bool
    trainable: bool

    @property
    def curve(self) -> Sequence[float]:
        """Test accuracy after each epoch; the last one of a run that diverged may stand for a part."""
        return self.record.curve["test_accuracy"]

    @property
    def dataset(self) -> str:
        """What it was trained on."""
        return str(self.record.config["dataset"])

    def found(self, epochs: float) -> float:
        """The best accuracy that was seen, a fraction, if it was trained for so many epochs."""
        return self.accuracy if epochs >= self.epochs else max(self.curve[: int(epochs)], default=0.0)


@dataclass(frozen=True, eq=False)
class CorpusRuns:
    """A corpus' runs, in the order of its collection."""

    collection: Collection
    runs: Sequence[Run]


@lru_cache(maxsize=1)
def corpus_runs(path: str, fingerprint: str) -> CorpusRuns:
    """The runs of a corpus; of the latest one they stay in memory.

    Args:
        path: folder or parquet file.
        fingerprint: of its content.

    Raises:
        CorpusError: it cannot be read.
        MissingExtraError: it is a parquet file and pyarrow is not installed.
        PredictorError: it has no runs.
    """
    collection = Collection.load([path])
    study = Study.of(collection.records, corpus_manifest(path))
    runs = [
        Run(
            place=place,
            record=record,
            history=collection.histories[place],
            logged=collection.curves[place],
            epochs=_length(record),
            accuracy=float(study.accuracies[place]),
            good=not study.low[place],
            trainable=bool(study.trainable[place]),
        )
        for place, record in enumerate(study.records)
    ]
    return CorpusRuns(collection, runs)


def _length(record: RunRecord) -> float:
    epochs = float(len(record.curve["test_accuracy"]))
    return epochs if record.diverged_epoch is None else min(record.diverged_epoch, epochs)


def sweeps(runs: Sequence[Run], band: str, count: int, size: int, seed: int) -> list[list[Run]]:
    """Random sweeps, each of runs on one data set, the data sets in turn.

    Args:
        runs: of a corpus.
        band: "all", or "trainable" for these alone.
        count: of sweeps.
        size: runs in a sweep, drawn without replacement; all of them where there are fewer.
        seed: of the draws; the same arguments give the same sweeps.

    Returns:
        None at all where no data set has 20 runs.
    """
    chosen = [run for run in runs if band == "all" or run.trainable]
    counted = Counter(run.dataset for run in chosen)
    datasets = sorted(name for name, found in counted.items() if found >= FEWEST)
    if not datasets:
        return []
    drawn = []
    for number in range(count):
        among = [run for run in chosen if run.dataset == datasets[number % len(datasets)]]
        order = np.random.default_rng([seed, number]).permutation(len(among))[:size]
        drawn.append([among[place] for place in order])
    return drawn
