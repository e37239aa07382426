"""The runs of corpora as sweeps: those of one network, data set and search space together."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.evaluation.replay.sampled_sweeps import trained_epochs
from lightning_nndyn.sweep import SweepReading, SweepRun
from lightning_nndyn.sweep.run import curve_numbers

_FAMILIES = {"resnet32": "resnet", "resnet44": "resnet", "vgg7": "vgg", "lenet5": "lenet"}


@dataclass(frozen=True, eq=False)
class RecordedSweep:
    """Runs of one network and data set that were trained to their ends.

    Attributes:
        name: of the corpus, with the number of the sweep or the data set where it holds several.
        corpus: that they come from.
        family: of the network.
        dataset: that they were trained on.
        records: of the runs.
        epochs: how long each run was trained; a fraction where it diverged within an epoch.
        curves: validation accuracies after each epoch, of each run.
        is_grid: whether it is a grid of the paper's settings or of random networks, not a sweep as people
            make them.
        runs: with all readings and final values.
        number: of the sweep in its corpus; None for a grid.
    """

    name: str
    corpus: str
    family: str
    dataset: str
    records: Sequence[RunRecord]
    epochs: Sequence[float]
    curves: Sequence[Sequence[float | None]]
    runs: Sequence[SweepRun]
    is_grid: bool
    number: int | None = None

    def drawn(self, count: int, size: int) -> list[RecordedSweep]:
        """Random sweeps of a grid's runs, always the same ones.

        Args:
            count: number of sweeps.
            size: runs in each, drawn without replacement; all where there are fewer.
        """
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return [self._some(rng.permutation(len(self.runs))[:size].tolist()) for _ in range(count)]

    def _some(self, indices: Sequence[int]) -> RecordedSweep:
        return replace(
            self,
            records=[self.records[index] for index in indices],
            epochs=[self.epochs[index] for index in indices],
            curves=[self.curves[index] for index in indices],
            runs=[self.runs[index] for index in indices],
        )


def load_recorded_sweeps(corpora: Sequence[Path | str]) -> list[RecordedSweep]:
    """The sweeps in corpora.

    Raises:
        CorpusError: a corpus cannot be read.
        PredictorError: one has no runs.
    """
    return sweeps_of(map(RunDataset.load, corpora))


def sweeps_of(datasets: Iterable[RunDataset]) -> list[RecordedSweep]:
    """The sweeps in recorded runs; those of one sweep may lie in several files of its corpus."""
    sweeps: dict[Any, list[tuple[RunDataset, int]]] = defaultdict(list)
    for dataset in datasets:
        for index, record in enumerate(dataset.records):
            of = record.config
            sweeps[dataset.name, of["dataset"], of.get("sweep")].append((dataset, index))
    return [_recorded_sweep(name, number, runs) for (name, _, number), runs in sweeps.items()]


def _recorded_sweep(corpus: str, number: int | None, runs: Sequence[tuple[RunDataset, int]]) -> RecordedSweep:
    records = [dataset.records[index] for dataset, index in runs]
    first = records[0].config
    network = "zoo" if first["preset"] == "zoo" else first["network"]
    return RecordedSweep(
        name=f"{corpus}-{first['dataset'] if number is None else number}",
        corpus=corpus,
        family=first.get("family") or _FAMILIES.get(network, network),
        dataset=first["dataset"],
        records=records,
        epochs=[trained_epochs(record) for record in records],
        curves=[record.curve["test_accuracy"] for record in records],
        runs=[_sweep_run(dataset, index) for dataset, index in runs],
        is_grid=not first.get("family"),
        number=number,
    )


def _sweep_run(dataset: RunDataset, index: int) -> SweepRun:
    history, curve = dataset.histories[index], dataset.curves[index]
    config = dataset.records[index].config
    params = {"learning_rate": config["learning_rate"], "optimizer": config["optimizer"]}
    read = [snapshot for snapshot in history[1:] if _is_compared(snapshot.epoch)]
    readings = [SweepReading.of([history[0], snapshot], curve) for snapshot in read]
    # Corpora of sweeps keep the weights of the first epochs alone; the curve goes on.
    last, epochs = readings[-1].time if readings else 0.0, len(curve.accuracies)
    for epoch in filter(_is_compared, range(int(last) + 1, epochs + 1)):
        readings.append(SweepReading(float(epoch), (), tuple(curve_numbers(curve, epoch))))
    return SweepRun({**(config.get("searched") or {}), **params}, readings, float(dataset.accuracies[index]))


def _is_compared(time: float) -> bool:
    """Whether runs are compared at a time: it is the first one of a rung."""
    return math.log2(time).is_integer()
