"""What methods read of a run by a given time: one row of numbers each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.corpus.storage.record import WEIGHT_STATISTICS
from lightning_nndyn.corpus.storage.thinning import horizon_of
from lightning_nndyn.evaluation.benchmark.material import distances
from lightning_nndyn.predictor.history import index_by_epoch
from lightning_nndyn.predictor.paper_models import Features
from lightning_nndyn.signature.relative import graph_movement
from lightning_nndyn.signature.snapshot import Snapshot

Row = Sequence[float]
Inputs = Callable[[RunRecord, float], Row]

_DISTANCE = WEIGHT_STATISTICS.index("distance")
_STD = WEIGHT_STATISTICS.index("std")
_LARGEST_LOSS = 20.0  # nats; a run about to diverge has any number
_RECENT = 3  # snapshots whose losses are read
_WORDS = ("optimizer", "schedule", "kind", "activation", "normalisation", "pooling", "head")


def snapshots_until(record: RunRecord, time: float) -> list[Snapshot]:
    """The run's snapshots up to a time."""
    return [snapshot for snapshot in record.snapshots if snapshot.epoch <= time]


def graph_v1(record: RunRecord, time: float) -> Row:
    """The ten statistics' movements at all snapshots: what version 1 of the predictors reads."""
    return Features("both", "plain", "relative").all_snapshots(*_table(record, time)).tolist()


def graph_v2(record: RunRecord, time: float) -> Row:
    """The movement of graph and weights, layer by layer, summarised over depth."""
    history = snapshots_until(record, time)
    return graph_movement(history, distances(record)[: len(history)]).tolist()


def weight_statistics(record: RunRecord, time: float) -> Row:
    """No graph: moments and quantiles of each layer's weights, and their changes since start and snapshot.

    In units of the first weights' standard deviation. Its columns belong to layers, so that it fits networks
    of one architecture alone.
    """
    until = len(snapshots_until(record, time))
    rows = np.array([list(layers.values()) for layers in record.weights[:until]])[:, :, :_DISTANCE]
    rows = rows / rows[0, :, _STD, None]
    now, start, last = rows[-1], rows[0], rows[-2]
    parts = np.arcsinh(now), np.arcsinh(30 * (now - start)), np.arcsinh(30 * (now - last))
    return np.nan_to_num(np.concatenate([part.ravel() for part in parts])).tolist()


def losses(record: RunRecord, time: float) -> Row:
    """Training loss at the latest snapshots: of the epoch so far, and of its last sixteenth."""
    until = len(snapshots_until(record, time))
    recent = [pair for pair in record.losses[1:until]][-_RECENT:]
    recent = [recent[0]] * (_RECENT - len(recent)) + recent
    values = [min(loss, _LARGEST_LOSS) for pair in recent for loss in pair]
    return [*values, values[-1] - values[1], min(values)]


def curves(record: RunRecord, time: float) -> Row:
    """Losses, and of each curve of finished epochs the last value and its rise, lately and in all."""
    found = list(losses(record, time))
    for name in ("test_accuracy", "test_loss", "train_loss", "train_accuracy"):
        values = [min(value, _LARGEST_LOSS) for value in record.curve[name][: int(time)]]
        if values:
            last, before = values[-1], values[max(0, len(values) - 2)]
            found += [last, last - before, last - values[0]]
    accuracies = record.curve["test_accuracy"][: int(time)]
    return [*found, max(accuracies)] if accuracies else found


def hyperparameters(record: RunRecord, time: float) -> Row:
    """What was set before training; `time` does not matter."""
    config: Mapping[str, object] = record.config
    options: Mapping[str, object] = record.config["network_options"]
    rates = [_logarithm(config.get(name)) for name in ("learning_rate", "weight_decay", "images")]
    plain = [float(config[name]) for name in ("momentum", "dropout", "batch_size", "crop_padding", "flip")]  # type: ignore[arg-type]
    words = [_word(config.get(name, options.get(name))) for name in _WORDS]
    widths = options.get("widths")
    depth = [float(len(widths)), _logarithm(sum(widths))] if isinstance(widths, list | tuple) else [0.0, 0.0]
    network = [float(options.get(name) or 0) for name in ("kernel", "residual", "init_scale", "num_classes")]  # type: ignore[arg-type]
    return [*rates, *plain, *words, *depth, *network]


def fused(record: RunRecord, time: float) -> Row:
    """Weights and curves."""
    return [*graph_v2(record, time), *curves(record, time)]


def fused_with_hyperparameters(record: RunRecord, time: float) -> Row:
    """Weights, curves and what was set."""
    return [*fused(record, time), *hyperparameters(record, time)]


INPUTS: dict[str, Inputs] = {
    "graph-v1": graph_v1,
    "graph-v2": graph_v2,
    "weight-stats": weight_statistics,
    "losses": losses,
    "curves": curves,
    "hyperparameters": hyperparameters,
    "fused": fused,
    "fused-hyperparameters": fused_with_hyperparameters,
}
"""Inputs of the methods that are learned with `learners.Learner`."""

_READ_LAYERS = ("graph-v2", "weight-stats", "fused", "fused-hyperparameters")


def readable(name: str, records: Sequence[RunRecord], time: float) -> bool:
    """Whether runs have what these inputs read: layers may have been left out of a file after some epoch."""
    return name not in _READ_LAYERS or all(time <= horizon_of(record) for record in records)


def _table(record: RunRecord, time: float) -> tuple[dict[float, Snapshot], list[float]]:
    table = index_by_epoch(snapshots_until(record, time))
    return table, [epoch for epoch in table if epoch > 0]


def _logarithm(value: object) -> float:
    number = float(value or 0)  # type: ignore[arg-type]
    return math.log(number) if number > 0 else -20.0


def _word(value: object) -> float:
    """A number for a word, the same in every process; trees need no more."""
    return float(sum(ord(letter) for letter in str(value)) % 997)
