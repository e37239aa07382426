"""What a predictor reads of a recorded run, in the form in which a run in training gives it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.corpus.storage.record import WEIGHT_STATISTICS
from lightning_nndyn.corpus.training.network import layer_kinds
from lightning_nndyn.predictor import LearningCurve, TrainingSetup
from lightning_nndyn.signature.snapshot import Snapshot

_SAME_RUN = ("seed", "index", "sampling", "preset")  # what may differ between runs of one configuration
_NORM, _DISTANCE = WEIGHT_STATISTICS.index("norm"), WEIGHT_STATISTICS.index("distance")


def history_of(record: RunRecord) -> list[Snapshot]:
    """The run's snapshots, with the distances of its weights from the first ones, and its layers' kinds.

    Those whose raw material was left out of a file are passed over, as if nothing had been read then.
    """
    kinds = layer_kinds(record)
    return [
        replace(snapshot, distances=tuple(far), kinds=kinds)
        for snapshot, far in zip(record.snapshots, distances(record), strict=True)
        if far
    ]


def distances(record: RunRecord) -> list[list[float]]:
    """For each snapshot and layer: how far its weights are from the first ones, in units of their norm.

    Empty for a snapshot whose raw material was left out of a file.
    """
    first = record.weights[0]
    return [
        [values[_DISTANCE] / first[name][_NORM] for name, values in layers.items()]
        for layers in record.weights
    ]


def curve_of(record: RunRecord) -> LearningCurve:
    """Its training losses and test accuracies."""
    pairs = zip(record.snapshots, record.losses, strict=True)
    return LearningCurve(
        losses={snapshot.epoch: loss for snapshot, loss in pairs if snapshot.epoch > 0},
        accuracies=record.curve["test_accuracy"],
        classes=classes_of(record),
    )


def classes_of(record: RunRecord) -> int:
    """How many classes it tells apart."""
    return int(record.config["network_options"]["num_classes"])


def configuration_of(record: RunRecord) -> str:
    """Equal for runs that differ in their seed alone."""
    return json.dumps({name: value for name, value in record.config.items() if name not in _SAME_RUN})


def training_of(record: RunRecord, images: int) -> TrainingSetup:
    """How it was trained; `images` are those that its data set has to train on."""
    used = min(record.config["images"] or images, images)
    steps = math.ceil(used / record.config["batch_size"])
    return TrainingSetup(steps, record.config["optimizer"], planned_epochs=record.config["epochs"])
