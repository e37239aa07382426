"""Features of the learned methods: one row of numbers from what a run has shown by the decision time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.corpus.storage.parquet import horizon_of
from lightning_nndyn.corpus.storage.record import WEIGHT_STATISTICS
from lightning_nndyn.evaluation.dataset import weight_distances
from lightning_nndyn.predictor.history import index_by_epoch
from lightning_nndyn.predictor.paper_models import Features
from lightning_nndyn.signature.relative import graph_movement
from lightning_nndyn.signature.snapshot import Snapshot

Vector = Sequence[float]

_DISTANCE = WEIGHT_STATISTICS.index("distance")
_STD = WEIGHT_STATISTICS.index("std")
_MAX_LOSS = 20.0  # nats; losses of a run that is about to diverge have no bound
_RECENT = 3  # number of snapshots whose losses are features
_WORDS = ("optimizer", "schedule", "kind", "activation", "normalisation", "pooling", "head")


def snapshots_until(record: RunRecord, time: float) -> list[Snapshot]:
    """The run's snapshots up to a time."""
    return [snapshot for snapshot in record.snapshots if snapshot.epoch <= time]


def graph_v1(record: RunRecord, time: float) -> Vector:
    """Relative changes of the ten statistics at all snapshots, as in signature version 1."""
    return Features("both", "plain", "relative").all_snapshots(*_table(record, time)).tolist()


def graph_v2(record: RunRecord, time: float) -> Vector:
    """Relative changes of graph and weights, by layer and summarised over depth: signature version 2."""
    history = snapshots_until(record, time)
    return graph_movement(history, weight_distances(record)[: len(history)]).tolist()


def weight_statistics(record: RunRecord, time: float) -> Vector:
    """No graph: moments and quantiles of each layer's weights, and their changes.

    Changes are those since the start and since the last snapshot, in units of the initial standard deviation.
    Columns belong to layers, so that rows are comparable only between runs of one architecture.
    """
    until = len(snapshots_until(record, time))
    rows = np.array([list(layers.values()) for layers in record.weights[:until]])[:, :, :_DISTANCE]
    rows = rows / rows[0, :, _STD, None]
    now, start, last = rows[-1], rows[0], rows[-2]
    parts = np.arcsinh(now), np.arcsinh(30 * (now - start)), np.arcsinh(30 * (now - last))
    return np.nan_to_num(np.concatenate([part.ravel() for part in parts])).tolist()


def losses(record: RunRecord, time: float) -> Vector:
    """Training losses at the latest three snapshots: of the epoch so far, and of its last sixteenth."""
    until = len(snapshots_until(record, time))
    recent = [pair for pair in record.losses[1:until]][-_RECENT:]
    recent = [recent[0]] * (_RECENT - len(recent)) + recent
    values = [min(loss, _MAX_LOSS) for pair in recent for loss in pair]
    return [*values, values[-1] - values[1], min(values)]


def curves(record: RunRecord, time: float) -> Vector:
    """Losses, and the last value of each curve with its rise since the epoch before and since the first."""
    found = list(losses(record, time))
    for name in ("test_accuracy", "test_loss", "train_loss", "train_accuracy"):
        values = [min(value, _MAX_LOSS) for value in record.curve[name][: int(time)]]
        if values:
            last, before = values[-1], values[max(0, len(values) - 2)]
            found += [last, last - before, last - values[0]]
    accuracies = record.curve["test_accuracy"][: int(time)]
    return [*found, max(accuracies)] if accuracies else found


def hyperparameters(record: RunRecord, time: float) -> Vector:
    """Hyperparameters; `time` is not used."""
    return hyperparameter_vector(record.config)


def hyperparameter_vector(config: Mapping[str, Any]) -> Vector:
    """The hyperparameters in a run's configuration, as numbers."""
    options: Mapping[str, Any] = config["network_options"]
    rates = [_logarithm(config.get(name)) for name in ("learning_rate", "weight_decay", "images")]
    plain = [float(config[name]) for name in ("momentum", "dropout", "batch_size", "crop_padding", "flip")]
    words = [_word(config.get(name, options.get(name))) for name in _WORDS]
    widths = options.get("widths")
    depth = [float(len(widths)), _logarithm(sum(widths))] if isinstance(widths, list | tuple) else [0.0, 0.0]
    network = [float(options.get(name) or 0) for name in ("kernel", "residual", "init_scale", "num_classes")]
    return [*rates, *plain, *words, *depth, *network]


def fused(record: RunRecord, time: float) -> Vector:
    """Weights and curves."""
    return [*graph_v2(record, time), *curves(record, time)]


def fused_with_hyperparameters(record: RunRecord, time: float) -> Vector:
    """Weights, curves and hyperparameters."""
    return [*fused(record, time), *hyperparameters(record, time)]


FEATURES: dict[str, Callable[[RunRecord, float], Vector]] = {
    "graph-v1": graph_v1,
    "graph-v2": graph_v2,
    "weight-stats": weight_statistics,
    "losses": losses,
    "curves": curves,
    "hyperparameters": hyperparameters,
    "fused": fused,
    "fused-hyperparameters": fused_with_hyperparameters,
}
"""Features of the methods that are learned with `learners.Learner`, by method."""

_NEED_LAYERS = ("graph-v2", "weight-stats", "fused", "fused-hyperparameters")


def readable(name: str, records: Sequence[RunRecord], time: float) -> bool:
    """Whether the records have what a method reads: late layers may have been left out of a corpus file."""
    return name not in _NEED_LAYERS or all(time <= horizon_of(record) for record in records)


def _table(record: RunRecord, time: float) -> tuple[dict[float, Snapshot], list[float]]:
    table = index_by_epoch(snapshots_until(record, time))
    return table, [epoch for epoch in table if epoch > 0]


def _logarithm(value: Any) -> float:
    number = float(value or 0)
    return math.log(number) if number > 0 else -20.0


def _word(value: object) -> float:
    """A number for a word, the same in every process (unlike `hash`); trees need no more."""
    return float(sum(ord(letter) for letter in str(value)) % 997)
