"""A recorded run, as far as a page about many runs needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import (
    FINISHED,
    STOPPED,
    PolicyFacts,
    RecordFile,
    plain_hparams,
)
from lightning_nndyn.predictor import TrainingSetup, Verdict
from lightning_nndyn.predictor.policy import Decision
from lightning_nndyn.signature.snapshot import Snapshot, statistics_matrix

Values = Sequence[float | None]


@dataclass
class RecordedRun:
    """One run; accuracies are fractions, times are in epochs.

    Attributes:
        name: the run's own, in its file's name.
        file: its record.
        status: "finished", "stopped", "interrupted" or "running".
        action: "stop" or "observe".
        monitor: the metric that the callback read; None if it read none.
        predictor: its name; None without one.
        policy: what the decisions rested on, see `DecisionMaker.facts`; empty if that is not on record.
        exempt: why it was not stopped, whatever was decided; empty if it could be.
        decision: the last one.
        verdicts: the predictor's, earliest first.
        times: when the weights were read.
        statistics: the signature's ten numbers at these times, float64 [n, 10].
        layers: the first, the decision's and the last snapshot that has numbers for each layer.
        layer_sizes: nodes of each layer; empty if that is not on record.
        classes: how many the network tells apart.
        curve: validation accuracy after each epoch; None where there was none.
        values: the metric after each epoch, whether it is an accuracy or not; None where there was none.
        logged: names of the metrics on record.
        training: how it is trained.
        planned: epochs it was to be trained for; None if that is not known.
        epochs: epochs it was trained for.
        no_accuracy: why there is no curve; empty if there is one.
        label: what to call it.
        differs: what tells it from the other runs, by hyperparameters, where the label does not.
        mode: whether its metric is to grow or to fall; None if that is not on record.
        hparams: its hyperparameters by name; empty if they are not on record.
    """

    name: str
    file: Path
    status: str
    action: str
    monitor: str | None
    predictor: str | None
    policy: PolicyFacts
    exempt: str
    decision: Decision
    verdicts: list[Verdict]
    times: list[float]
    statistics: NDArray[np.float64]
    layers: list[Snapshot]
    layer_sizes: list[int]
    classes: int
    curve: Values
    logged: list[str]
    training: TrainingSetup
    planned: float | None
    epochs: float
    no_accuracy: str = ""
    values: Values = ()
    label: str = field(default="")
    differs: str = ""
    mode: str | None = None
    hparams: Mapping[str, str | float | bool | None] = field(default_factory=dict)

    @property
    def best(self) -> float | None:
        """Its best validation accuracy so far; None if there is none."""
        return max((value for value in self.curve if value is not None), default=None)

    @property
    def best_value(self) -> float | None:
        """The best value of its metric so far, whatever that is; None if there is none."""
        best = min if self.mode == "min" else max
        return best((value for value in self.values if value is not None), default=None)

    @property
    def finished(self) -> bool:
        """Whether it went on to its end, and how accurate it ended is known."""
        return self.status == FINISHED and self.best is not None

    @property
    def stopped(self) -> bool:
        """Whether the callback has stopped it."""
        return self.status == STOPPED

    @property
    def flagged_to_stop(self) -> bool:
        """Whether it was to be stopped, and went on."""
        return self.decision.stop and not self.stopped

    @property
    def saved(self) -> float | None:
        """Epochs that stopping it saved, or would have; None for a stopped run that had no planned end."""
        if self.stopped:
            return None if self.planned is None else max(0.0, self.planned - self.epochs)
        return max(0.0, self.epochs - self.decision.epoch) if self.flagged_to_stop else 0.0

    @property
    def out_of_domain(self) -> bool:
        """Whether the last verdict is out of the predictor's domain."""
        return bool(self.verdicts) and not self.verdicts[-1].in_domain

    @property
    def prediction(self) -> Verdict | None:
        """The verdict that the decision rests on, or the last one; None without any."""
        for verdict in self.verdicts:
            if self.decision.stop and verdict.epoch == self.decision.epoch:
                return verdict
        return self.verdicts[-1] if self.verdicts else None


def recorded_run(file: Path, record: Record, stored: RecordFile) -> RecordedRun:
    """A run from its record, without its curve.

    Args:
        file: where that lies.
        record: what it holds.
        stored: the same, and settings of the callback.
    """
    planned = stored.max_epochs
    by_epochs = stored.every_n_steps is None and planned is not None and planned > 0
    return RecordedRun(
        name=record.run,
        file=file,
        status=stored.status,
        action=stored.action,
        monitor=stored.monitor,
        predictor=stored.predictor,
        policy=stored.policy,
        exempt=record.exempt,
        decision=record.decision,
        verdicts=record.verdicts,
        times=[snapshot.epoch for snapshot in record.history],
        statistics=statistics_matrix(record.history),
        layers=_with_layers(record),
        layer_sizes=stored.layer_sizes,
        classes=record.classes,
        curve=[],
        logged=sorted(record.metrics),
        training=record.training,
        planned=float(planned) if by_epochs and planned is not None else None,
        epochs=_trained(record, stored.status),
        mode=stored.mode,
        hparams=stored.hparams or _from_logger(file.parent / "hparams.yaml"),
    )


def _from_logger(file: Path) -> dict[str, str | float | bool | None]:
    """The hyperparameters that Lightning's loggers keep beside the record; none where they cannot be read."""
    import yaml  # comes with Lightning

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return plain_hparams(found) if isinstance(found, dict) else {}


def in_words(hparams: Mapping[str, str | float | bool | None]) -> str:
    """Hyperparameters in a line: "learning_rate 0.0123, dropout 0.5"."""
    known = {name: value for name, value in hparams.items() if value is not None}
    numbers = {name: f"{value:.4g}" for name, value in known.items() if isinstance(value, float)}
    return ", ".join(f"{name} {numbers.get(name, value)}" for name, value in known.items())


def differing_in_words(hparams: Sequence[Mapping[str, str | float | bool | None]]) -> list[str]:
    """For each run those of its hyperparameters that are not the same in all runs, in a line."""
    names = list(dict.fromkeys(name for one in hparams for name in one))
    differ = [name for name in names if len({repr(one.get(name)) for one in hparams}) > 1]
    return [in_words({name: one.get(name) for name in differ}) for one in hparams]


def _trained(record: Record, status: str) -> float:
    """Epochs that a run was trained for: as far as it was read, or its metrics go."""
    last = record.history[-1].epoch if record.history else 0.0
    rows = max(map(len, record.metrics.values()), default=0)
    if status == STOPPED and last < 1 and rows <= 1:
        return last  # within its first epoch; a validation that follows is no epoch
    return max(last, float(rows))


def _with_layers(record: Record) -> list[Snapshot]:
    """The first, the decision's and the last snapshot of those that have numbers for each layer."""
    known = [snapshot for snapshot in record.history if snapshot.layers]
    wanted = {snapshot.epoch: snapshot for snapshot in known[:1] + known[-1:]}
    if record.decision.stop:
        wanted |= {one.epoch: one for one in known if one.epoch == record.decision.epoch}
    return [wanted[epoch] for epoch in sorted(wanted)]
