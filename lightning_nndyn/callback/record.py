"""The record of one run: what was read, predicted and decided."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Annotated, Any, Literal

import msgspec
from torch import Tensor

from lightning_nndyn._files import Finite, Number, RunName, decode
from lightning_nndyn.predictor import LearningCurve, TrainingSetup, Verdict
from lightning_nndyn.predictor.policy import Decision
from lightning_nndyn.signature.snapshot import Snapshot

_STATE_VERSION = 2
_SAME_NAMES = ("history", "verdicts", "decision", "classes", "kind", "metrics", "run", "unit")
Unit = Literal["fraction", "percent", "own"]
_MOST_CLASSES = 2**31
_UNDECIDED = Decision(stop=False, reason="no verdict yet", epoch=0.0)


class StoredRecord(msgspec.Struct, kw_only=True):
    """What `Record.to_dict` gives, with the names of the first releases. Later keys have defaults."""

    history: list[Snapshot]
    verdicts: list[Verdict]
    decision: Decision
    losses: list[tuple[Finite, float | None, float | None]]
    accuracies: list[float | None]
    classes: Annotated[int, msgspec.Meta(ge=2, le=_MOST_CLASSES)]
    kind: Literal["", "weights", "fused"]
    metrics: dict[str, list[float | None]]
    spared: str
    run: RunName
    steps_per_epoch: Number | None
    optimizer: str | None
    planned_epochs: Number | None = None
    learning_rate: Finite | None = None
    unit: Unit = "fraction"

    def __post_init__(self) -> None:
        if any(late.epoch <= early.epoch for early, late in pairwise(self.history)):
            raise ValueError("its snapshots do not ascend")
        if len({(len(one.layers), len(one.distances)) for one in self.history if one.layers}) > 1:
            raise ValueError("its snapshots are of different graphs")


@dataclass
class Record:
    """The record of one run.

    Attributes:
        history: snapshots, snapshot 0 first.
        verdicts: the predictor's, earliest first.
        decision: the latest; a decision to stop is final.
        losses: for each snapshot's time the mean training loss of its epoch so far, and of its last
            sixteenth; NaN where there was none.
        accuracies: validation accuracy after each epoch, or the metric that is monitored in its place; NaN
            where there was none.
        unit: of the monitored metric as it is logged. `accuracies` are fractions where it is a fraction or in
            percent; else the metric is no accuracy, and they are in its own unit.
        classes: number of classes of the task.
        kind: of the models that judge this run, by their inputs; empty until the first verdict.
        metrics: for each metric of the Trainer its latest value after each epoch.
        exempt: why the run is not stopped, whatever is decided; empty if it may be.
        run: the run's name, of its record on disk.
        training: how it is trained.
        first_weights: what distances are measured from, see `SnapshotReader`.
        eigenvector: of the last snapshot, from which the next one is found; None in older checkpoints.
    """

    history: list[Snapshot] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    decision: Decision = _UNDECIDED
    losses: dict[float, tuple[float, float]] = field(default_factory=dict)
    accuracies: list[float] = field(default_factory=list)
    classes: int = 2
    kind: str = ""
    metrics: dict[str, list[float | None]] = field(default_factory=dict)
    exempt: str = ""
    unit: Unit = "fraction"
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    training: TrainingSetup = field(default_factory=TrainingSetup)
    first_weights: list[Tensor] = field(default_factory=list, repr=False)
    eigenvector: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def from_start(self) -> bool:
        """Whether the run is on record from before its first step."""
        return bool(self.history) and self.history[0].epoch == 0

    @property
    def time(self) -> float:
        """Time of the last snapshot in epochs; -1 before the first."""
        return self.history[-1].epoch if self.history else -1.0

    @property
    def best_accuracy(self) -> float:
        """The best accuracy so far; 0 where there was none."""
        if self.unit == "own":
            return 0.0
        return max(filter(math.isfinite, self.accuracies), default=0.0)

    def curve(self) -> LearningCurve:
        """The learning curve. Epochs without validation are interpolated linearly between those with one.

        Before training the accuracy is that of guessing. After the last validation nothing is filled in: an
        accuracy that stays as it was would look like a run that learns no more. What is no accuracy is left
        out.
        """
        return self.curve_of(() if self.unit == "own" else self.accuracies)

    def curve_of(self, values: Sequence[float], start: float | None = None) -> LearningCurve:
        """The learning curve with another metric in place of the accuracy.

        Args:
            values: after each epoch; NaN where there was none.
            start: before training; None for the accuracy of guessing.
        """
        return LearningCurve(
            self.losses, _interpolated(values, 1 / self.classes if start is None else start), self.classes
        )

    @property
    def has_not_moved(self) -> bool:
        """Whether weights have been read in training, and none has moved since the start."""
        last = self.history[-1] if self.history else None
        if last is None or last.epoch == 0 or not (last.finite and last.distances):
            return False
        return not any(last.distances)

    @property
    def loss_has_moved(self) -> bool:
        """Whether losses differ by more than batches do; also where there are none to tell."""
        found = [loss for pair in self.losses.values() for loss in pair if math.isfinite(loss)]
        return not found or max(found) - min(found) > 0.05 * max(map(abs, found))

    def to_dict(self) -> dict[str, Any]:
        """All but the weights, as JSON-able values; None for what is not finite in a curve."""
        return {"history": [snapshot.to_dict() for snapshot in self.history], **self.facts()}

    def facts(self) -> dict[str, Any]:
        """The same without the snapshots, which are most of the data."""
        return {
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "decision": asdict(self.decision),
            "losses": [[time, *map(_finite, pair)] for time, pair in self.losses.items()],
            "accuracies": [_finite(accuracy) for accuracy in self.accuracies],
            "classes": self.classes,
            "kind": self.kind,
            "metrics": {name: list(values) for name, values in self.metrics.items()},
            "spared": self.exempt,
            "run": self.run,
            "unit": self.unit,
            **asdict(self.training),
        }

    def state_dict(self) -> dict[str, Any]:
        """Numbers, strings, tensors, lists and dicts only: a checkpoint loads with ``weights_only=True``."""
        first = [weight.detach().cpu() for weight in self.first_weights]
        state = {"version": _STATE_VERSION, **self.to_dict(), "first_weights": first}
        if self.eigenvector is not None:
            state["eigenvector"] = self.eigenvector.detach().cpu()
        return state

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Record:
        """The inverse of `state_dict`.

        Raises:
            ValueError: if the state is of another version, or a value is missing or unfit.
        """
        if state.get("version") != _STATE_VERSION:
            raise ValueError(
                f"the checkpoint's record of this run has version {state.get('version')}, this release reads "
                f"version {_STATE_VERSION}: resume with the release that wrote it, or train from the start"
            )
        weights, vector = state.get("first_weights"), state.get("eigenvector")
        try:
            if not isinstance(weights, list) or not all(isinstance(one, Tensor) for one in weights):
                raise ValueError("its first weights are no tensors")
            if vector is not None and not _is_direction(vector):
                raise ValueError("its eigenvector is no tensor of finite numbers")
            return replace(cls.from_dict(state), first_weights=list(weights), eigenvector=vector)
        except ValueError as error:
            raise ValueError(
                f"the checkpoint's record of this run is damaged ({error}): resume from another checkpoint, "
                "or train from the start"
            ) from error

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Record:
        """The inverse of `to_dict`.

        Raises:
            ValueError: a value is missing or unfit.
        """
        return cls.from_stored(decode(state, StoredRecord))

    @classmethod
    def from_stored(cls, stored: StoredRecord) -> Record:
        """The record that was stored."""
        return cls(
            losses={time: (_number(mean), _number(late)) for time, mean, late in stored.losses},
            accuracies=[_number(accuracy) for accuracy in stored.accuracies],
            training=_training_of(stored),
            exempt=stored.spared,
            **{name: getattr(stored, name) for name in _SAME_NAMES},
        )


def _is_direction(vector: Any) -> bool:
    """Whether an object can stand for an eigenvector: finite numbers, not all of them zero."""
    if not (isinstance(vector, Tensor) and vector.is_floating_point()):
        return False
    return bool(vector.isfinite().all() and vector.any())


def _training_of(stored: StoredRecord) -> TrainingSetup:
    return TrainingSetup(
        stored.steps_per_epoch, stored.optimizer, stored.planned_epochs, stored.learning_rate
    )


def _interpolated(accuracies: Sequence[float], guess: float) -> list[float]:
    """Interpolates gaps linearly, but not one at the end."""
    filled, known, level = list(accuracies), -1, guess
    for index, accuracy in enumerate(accuracies):
        if math.isnan(accuracy):
            continue
        for gap in range(known + 1, index):
            filled[gap] = level + (accuracy - level) * (gap - known) / (index - known)
        known, level = index, accuracy
    return filled


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value
