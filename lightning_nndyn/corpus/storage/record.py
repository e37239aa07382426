"""The record of one training run, on which predictors are fitted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import msgspec
import numpy as np

from lightning_nndyn._files import Count, Finite, decode
from lightning_nndyn.signature.snapshot import Snapshot, chain_depth

RECORD_VERSION = 1
CURVES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate", "seconds")
WEIGHT_STATISTICS = (
    "norm", "mean", "std", "skewness", "kurtosis",
    "min", "q10", "q25", "median", "q75", "q90", "max",
    "distance",
)  # fmt: skip
"""What `RunRecord.weights` holds per layer; `distance` is the Frobenius distance from the first weights."""


class _Config(msgspec.Struct):
    """Those settings of a run that are read again."""

    dataset: str
    sampling: str
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    optimizer: str
    epochs: Count
    network_options: dict[str, Any]
    images: Count | None = None
    sweep: int | None = None
    guess: Finite | None = None

    def __post_init__(self) -> None:
        if self.sweep is not None and self.guess is None:
            raise ValueError("a run of a sweep lacks the accuracy of guessing")


LayerNumbers = Mapping[str, tuple[float, ...]]


@dataclass
class RunRecord:
    """One training run. Accuracies are fractions, losses cross-entropies in nats, times seconds.

    Attributes:
        index: Number of the run in its preset.
        config: The `RunConfig` as a dict, and `network_options`, the arguments of the network's function.
        snapshots: Of the graph at 0, 1/16, 1/8, 1/4, 1/2, 1, 2, ... epochs, with numbers per layer.
        losses: For each snapshot the mean training loss over the batches of its epoch so far, and over the
            last sixteenth of an epoch (at least one batch); both NaN for snapshot 0.
        weights: For each snapshot `WEIGHT_STATISTICS` of the raw weights per layer.
        curve: For each epoch the numbers named in `CURVES`; the training ones are means over the epoch's
            augmented batches. The last row of a diverged run may be of an incomplete epoch.
        patience_epoch: The epoch after which the paper's protocol would have stopped; None if it would not.
        diverged_epoch: The time of the first snapshot with a non-finite loss or weight, where the run ended;
            None for a run that did not diverge.
        reason: Why the run ended.
        seconds: Wall time of the whole run.
        failed: Whether an error ended the run before its time; its curve may then be empty, and its
            accuracies NaN.
        departures: From the paper's protocol, in words.
        versions: Of the record, the signature, the package and torch.
        flow: Snapshots of the data flow at the same times; empty if it equals the chain or was not read.
        schedule: For each snapshot the schedule's factor of the learning rate and the share of all planned
            steps that had been trained; empty in the first records.
    """

    index: Count
    config: dict[str, Any]
    snapshots: list[Snapshot]
    losses: list[tuple[float, float]]
    weights: list[LayerNumbers]
    curve: dict[str, list[float]]
    patience_epoch: Count | None
    diverged_epoch: Finite | None
    reason: str
    seconds: Finite
    failed: bool = False
    departures: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    flow: list[Snapshot] = field(default_factory=list)
    schedule: list[tuple[float, float]] = field(default_factory=list)

    @property
    def best_accuracy(self) -> float:
        """The best test accuracy of the whole run."""
        return max(self.curve["test_accuracy"], default=math.nan)

    @property
    def last_accuracy(self) -> float:
        """The test accuracy of the run's last epoch."""
        return _last(self.curve["test_accuracy"])

    @property
    def patience_best_accuracy(self) -> float:
        """The best test accuracy up to the epoch where patience would have stopped."""
        return max(self.curve["test_accuracy"][: self.patience_epoch], default=math.nan)

    @property
    def patience_last_accuracy(self) -> float:
        """The test accuracy of the epoch where patience would have stopped, or of the last one."""
        return _last(self.curve["test_accuracy"][: self.patience_epoch])

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-able values; NaN stays a float."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        labels = ("best_accuracy", "last_accuracy", "patience_best_accuracy", "patience_last_accuracy")
        return own | {
            "labels": {name: getattr(self, name) for name in labels},
            "snapshots": [snapshot.to_dict() for snapshot in self.snapshots],
            "losses": [list(pair) for pair in self.losses],
            "flow": [snapshot.to_dict() for snapshot in self.flow],
            "schedule": [list(pair) for pair in self.schedule],
            "weights": [{name: list(values) for name, values in layer.items()} for layer in self.weights],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunRecord":
        """The record that `to_dict` wrote; unknown keys (of a later version) are left out.

        Raises:
            ValueError: A value is missing or unfit.
        """
        found = decode(values, cls)
        found.snapshots = _in_single_precision(found.snapshots, values["snapshots"])
        found.flow = _in_single_precision(found.flow, values.get("flow", ()))
        found.weights = [single_precision(layer) for layer in found.weights]
        found.check()
        return found

    def check(self) -> None:
        """Check what is said in several places.

        Raises:
            ValueError: Series have different lengths, or settings are missing.
        """
        decode(self.config, _Config)
        lengths = {len(self.snapshots), len(self.losses), len(self.weights)}
        if len(lengths) > 1 or len(self.flow) not in (0, len(self.snapshots)):
            raise ValueError("its series of snapshots have different lengths")
        if not set(CURVES) <= set(self.curve):
            raise ValueError(f"its curve lacks one of {', '.join(CURVES)}")


def single_precision(layers: Mapping[str, Sequence[float]]) -> LayerNumbers:
    """Numbers per layer, rounded to float32 as they are stored; rounding twice changes nothing."""
    with np.errstate(over="ignore"):  # a run about to diverge may exceed float32: infinity says so
        return {name: tuple(np.asarray(values, dtype=np.float32).tolist()) for name, values in layers.items()}


def _last(values: Sequence[float]) -> float:
    return values[-1] if values else math.nan


def _in_single_precision(snapshots: Sequence[Snapshot], plain: Sequence[Mapping[str, Any]]) -> list[Snapshot]:
    """Snapshots with layers as they are stored; the first records are of chains, and have no depth."""
    rounded = []
    for snapshot, own in zip(snapshots, plain, strict=True):
        depth = own.get("depth", chain_depth(snapshot.layers))
        rounded.append(replace(snapshot, layers=single_precision(snapshot.layers), depth=depth))
    return rounded


def patience_epoch(accuracies: Sequence[float | None], patience: int) -> int | None:
    """The epoch (from 1) at which early stopping would end a run; None if it would not.

    That is the first at which `patience` accuracies in turn were no better than the best before them. Epochs
    without an accuracy do not count.
    """
    best, waited = -math.inf, 0
    for epoch, accuracy in enumerate(accuracies, start=1):
        if accuracy is None:
            continue
        best, waited = (accuracy, 0) if accuracy > best else (best, waited + 1)
        if waited >= patience:
            return epoch
    return None
