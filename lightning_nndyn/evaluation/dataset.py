"""Recorded runs of one corpus or several, labelled: what predictors are fitted to and evaluated on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.corpus import RunRecord, load_corpus
from lightning_nndyn.corpus.status import is_trainable, low_threshold
from lightning_nndyn.corpus.storage import corpus_manifest
from lightning_nndyn.corpus.storage.record import WEIGHT_STATISTICS
from lightning_nndyn.corpus.training.network import layer_kinds
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import LearningCurve, Predictor, TrainingSetup
from lightning_nndyn.predictor.low_accuracy import relative_accuracies
from lightning_nndyn.signature.snapshot import Array, Mask, Snapshot

Indices = NDArray[np.int64]

_ARRAYS = ("accuracies", "thresholds", "trainable", "populations", "relative")
_NOT_CONFIGURATION = ("seed", "index", "sampling", "preset")  # may differ between runs of one configuration
_NORM, _DISTANCE = WEIGHT_STATISTICS.index("norm"), WEIGHT_STATISTICS.index("distance")


@dataclass(frozen=True)
class RunDataset:
    """Finished runs and their labels; each sequence has one entry per run.

    Attributes:
        name: of the corpus, or of the corpora.
        records: the runs as they were recorded, without those that failed.
        accuracies: best test accuracy, a fraction; shape [n].
        thresholds: accuracy below which a run on its data set is low; shape [n].
        trainable: whether a run did not diverge and reached twice the accuracy of guessing; shape [n].
        populations: network and data set of each run; shape [n].
        relative: accuracy as a share of the best accuracy of the same population in the whole corpus, where
            guessing is 0; shape [n].
        trainings: optimizer, steps per epoch and planned epochs.
    """

    name: str
    records: Sequence[RunRecord]
    accuracies: Array
    thresholds: Array
    trainable: Mask
    populations: NDArray[np.str_]
    relative: Array
    trainings: Sequence[TrainingSetup]

    @classmethod
    def load(cls, corpora: Path | str | Sequence[Path | str], name: str | None = None) -> RunDataset:
        """Read corpus folders or parquet files.

        Args:
            corpora: one path, or several.
            name: of the result; None joins the names of the corpora.

        Raises:
            CorpusError: a corpus cannot be read.
            MissingExtraError: one is a parquet file and pyarrow is not installed.
            PredictorError: one has no runs.
        """
        paths = [corpora] if isinstance(corpora, (str, Path)) else corpora
        parts = [cls.from_records(load_corpus(path), corpus_manifest(path)) for path in paths]
        whole = concatenate(parts, name or " and ".join(part.name for part in parts))
        # Corpora may share a population, whose best run is then looked for in all of them.
        return replace(whole, relative=_relative(whole.records, whole.accuracies, whole.populations))

    @classmethod
    def from_records(cls, records: Sequence[RunRecord], manifest: Mapping[str, Any]) -> RunDataset:
        """Label records that are in memory.

        Args:
            records: of one corpus; failed ones are left out.
            manifest: the corpus' settings and facts on its data sets.

        Raises:
            PredictorError: no run is left.
        """
        settings = manifest["settings"]
        whole = [record for record in records if not record.failed]
        if not whole:
            raise PredictorError(
                f"corpus {settings['name']!r} has no runs yet: train some with nndyn corpus train"
            )
        datasets = [str(record.config["dataset"]) for record in whole]
        accuracies = np.array([record.best_accuracy for record in whole])
        populations = np.array([f"{settings['name']} on {dataset}" for dataset in datasets])
        return cls(
            name=settings["name"],
            records=whole,
            accuracies=accuracies,
            thresholds=np.array([low_threshold(settings, dataset) for dataset in datasets], dtype=np.float64),
            trainable=np.array([is_trainable(record, manifest) for record in whole]),
            populations=populations,
            relative=_relative(whole, accuracies, populations),
            trainings=[
                _training(record, int(manifest["data"][dataset]["train_images"]))
                for record, dataset in zip(whole, datasets, strict=True)
            ],
        )

    of = from_records
    """The old name of `from_records`, kept for one release."""

    @cached_property
    def histories(self) -> list[list[Snapshot]]:
        """The runs' snapshots as a predictor reads them."""
        return [history_of(record) for record in self.records]

    @cached_property
    def curves(self) -> list[LearningCurve]:
        """The runs' learning curves as a predictor reads them."""
        return [curve_of(record) for record in self.records]

    @cached_property
    def configurations(self) -> list[str]:
        """The runs' settings as text: equal for runs that differ in their seed alone."""
        return [_configuration(record) for record in self.records]

    @cached_property
    def groups(self) -> Indices:
        """A number for each configuration, in the order in which they first occur; shape [n]."""
        numbers = {key: number for number, key in enumerate(dict.fromkeys(self.configurations))}
        return np.array([numbers[key] for key in self.configurations])

    @cached_property
    def datasets(self) -> NDArray[np.str_]:
        """The data set that each run was trained on; shape [n]."""
        return np.array([record.config["dataset"] for record in self.records])

    @property
    def low(self) -> Mask:
        """Whether a run ends below its threshold; shape [n]."""
        return self.accuracies < self.thresholds

    def at(self, time: float) -> Indices:
        """Indices of the runs with a snapshot at this time and finite weights until then.

        Args:
            time: in epochs.
        """
        usable = [
            index
            for index, record in enumerate(self.records)
            if any(snapshot.epoch == time for snapshot in record.snapshots)
            and all(snapshot.finite for snapshot in record.snapshots if snapshot.epoch <= time)
        ]
        return np.array(usable, dtype=np.int64)

    def take(self, chosen: NDArray[Any]) -> RunDataset:
        """Some of the runs, by their indices or a mask; `relative` still refers to all of them."""
        indices = np.arange(len(self.records))[chosen]
        return replace(
            self,
            records=[self.records[index] for index in indices],
            trainings=[self.trainings[index] for index in indices],
            **{name: getattr(self, name)[indices] for name in _ARRAYS},
        )

    def fit(self, predictor: Predictor) -> Predictor:
        """Fit a predictor to all runs.

        Raises:
            PredictorError: too few runs of one class.
        """
        return predictor.fit(
            self.histories,
            self.accuracies.tolist(),
            corpus=self.name,
            curves=self.curves,
            groups=self.configurations,
            populations=self.populations.tolist(),
            training=self.trainings,
        )


def concatenate(parts: Sequence[RunDataset], name: str) -> RunDataset:
    """The runs of all parts, in their order; their relative accuracies stay as they are.

    Args:
        parts: at least one.
        name: of the result.
    """
    return replace(
        parts[0],
        name=name,
        records=[record for part in parts for record in part.records],
        trainings=[training for part in parts for training in part.trainings],
        **{field: np.concatenate([getattr(part, field) for part in parts]) for field in _ARRAYS},
    )


def history_of(record: RunRecord) -> list[Snapshot]:
    """A run's snapshots with the distances of its weights from the first ones and the kinds of its layers.

    Snapshots whose raw material was left out of a file are passed over, as if nothing had been read then.
    """
    kinds = layer_kinds(record)
    return [
        replace(snapshot, distances=tuple(moved), kinds=kinds)
        for snapshot, moved in zip(record.snapshots, weight_distances(record), strict=True)
        if moved
    ]


def weight_distances(record: RunRecord) -> list[list[float]]:
    """For each snapshot and layer: the distance of the weights from the first ones, in units of their norm.

    Empty for a snapshot whose raw material was left out of a file.
    """
    first, layers = record.weights[0], list(record.snapshots[0].layers)[1:]
    parameters = [_parameters_of(layer, layers, list(first)) for layer in layers]
    norms = [math.hypot(*(first[name][_NORM] for name in names)) for names in parameters]
    return [
        [
            math.hypot(*(values[name][_DISTANCE] for name in names)) / norm
            for names, norm in zip(parameters, norms, strict=True)
        ]
        if values
        else []
        for values in record.weights
    ]


def _parameters_of(layer: str, layers: Sequence[str], parameters: Sequence[str]) -> list[str]:
    """The recorded parameters of a layer: usually the one of its name.

    A layer of a recurrent module (``cells.l0``) has several, and the projections of an attention
    (``attention.q``) share one: such a layer has those parameters of its module that are no layer themselves.
    """
    if layer in parameters:
        return [layer]
    module, _, part = layer.rpartition(".")
    own = [name for name in parameters if name.rpartition(".")[0] == module and name not in layers]
    return [name for name in own if name.endswith(f"_{part}")] or own


def curve_of(record: RunRecord) -> LearningCurve:
    """A run's training losses and test accuracies."""
    pairs = zip(record.snapshots, record.losses, strict=True)
    return LearningCurve(
        losses={snapshot.epoch: loss for snapshot, loss in pairs if snapshot.epoch > 0},
        accuracies=record.curve["test_accuracy"],
        classes=_classes(record),
    )


def _relative(records: Sequence[RunRecord], accuracies: Array, populations: NDArray[np.str_]) -> Array:
    guesses = np.array([1 / _classes(record) for record in records])
    return relative_accuracies(accuracies, populations, guesses)


def _classes(record: RunRecord) -> int:
    return int(record.config["network_options"]["num_classes"])


def _configuration(record: RunRecord) -> str:
    shared = {name: value for name, value in record.config.items() if name not in _NOT_CONFIGURATION}
    return json.dumps(shared)


def _training(record: RunRecord, images: int) -> TrainingSetup:
    """How a run was trained; `images` are the training images of its data set."""
    used = min(record.config["images"] or images, images)
    steps = math.ceil(used / record.config["batch_size"])
    return TrainingSetup(steps, record.config["optimizer"], planned_epochs=record.config["epochs"])
