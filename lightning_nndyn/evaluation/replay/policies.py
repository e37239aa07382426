"""Ways of stopping the runs of a sweep."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lightning_nndyn.corpus.storage.record import patience_epoch
from lightning_nndyn.evaluation.replay.optuna_pruners import pruner_epochs
from lightning_nndyn.evaluation.replay.sampled_sweeps import Run


class SweepPolicy(Protocol):
    """A way of stopping. Its `repr` tells it and its settings from all others.

    Attributes:
        family: the name that it shares with those of other settings.
        setting: in words; empty where there is one of the family.
        ours: whether it is one of this package.
    """

    @property
    def family(self) -> str: ...  # noqa: D102

    @property
    def setting(self) -> str: ...  # noqa: D102

    @property
    def ours(self) -> bool: ...  # noqa: D102

    def epochs(self, runs: Sequence[Run]) -> list[float]:
        """After how many epochs each run ends, when they come in this order; 0 for not at all begun."""
        ...


def name_of(policy: SweepPolicy) -> str:
    """Family and setting."""
    return f"{policy.family} {policy.setting}".strip()


@dataclass(frozen=True)
class NoStopping:
    """All runs are trained to their end."""

    family: str = "no stopping"
    setting: str = ""
    ours: bool = False

    def epochs(self, runs: Sequence[Run]) -> list[float]:
        """See `SweepPolicy`."""
        return [run.epochs for run in runs]


@dataclass(frozen=True)
class Patience:
    """A run ends once so many epochs have brought no better accuracy."""

    patience: int
    family: str = "patience"
    ours: bool = False

    @property
    def setting(self) -> str:
        """In words."""
        return str(self.patience)

    def epochs(self, runs: Sequence[Run]) -> list[float]:
        """See `SweepPolicy`."""
        ends = [patience_epoch(run.curve, self.patience) for run in runs]
        return [
            run.epochs if end is None else min(float(end), run.epochs)
            for run, end in zip(runs, ends, strict=True)
        ]


@dataclass(frozen=True)
class Pruner:
    """One of Optuna's, told the accuracy after each epoch.

    Attributes:
        name: see `pruner_epochs`.
        family: what to call it.
        setting: in words.
        arguments: of Optuna's class, where not its defaults.
    """

    name: str
    family: str
    setting: str = ""
    arguments: Mapping[str, float] = field(default_factory=dict)
    ours: bool = False

    def epochs(self, runs: Sequence[Run]) -> list[float]:
        """See `SweepPolicy`."""
        # A seed of its own for each order, as each study has a name of its own.
        seed = zlib.crc32(repr([run.place for run in runs]).encode())
        ends = pruner_epochs(self.name, [run.curve for run in runs], seed, **self.arguments)
        return [min(float(end), run.epochs) for run, end in zip(runs, ends, strict=True)]


@dataclass(frozen=True)
class BestShare:
    """All runs are trained for a while; then those that look best, to their end.

    Attributes:
        share: of the runs that goes on, at least one.
        after: epochs.
        scores: what they are compared by, by their places; None for the best accuracy so far.
        family: what to call it.
    """

    share: float
    after: float = 1.0
    scores: Mapping[int, float] | None = None
    family: str = "one epoch, then the best"
    ours: bool = False

    @property
    def setting(self) -> str:
        """In words."""
        return f"{100 * self.share:g} %"

    def epochs(self, runs: Sequence[Run]) -> list[float]:
        """See `SweepPolicy`."""
        wanted = max(1, round(self.share * len(runs)))
        scores = [self._score(run) for run in runs]
        best = sorted(range(len(runs)), key=lambda place: -scores[place])[:wanted]
        return [run.epochs if at in best else min(self.after, run.epochs) for at, run in enumerate(runs)]

    def _score(self, run: Run) -> float:
        if run.epochs <= self.after and not run.trainable:
            return -math.inf  # it has diverged
        return run.found(self.after) if self.scores is None else self.scores[run.place]


@dataclass(frozen=True)
class Decided:
    """Runs end when it was decided, whatever the others do.

    Attributes:
        stops: epochs after which a run is stopped, by its place; runs that are not in it go on.
        family: what to call it.
        setting: in words.
    """

    stops: Mapping[int, float]
    family: str
    setting: str
    ours: bool = True

    def epochs(self, runs: Sequence[Run]) -> list[float]:
        """See `SweepPolicy`."""
        return [min(self.stops.get(run.place, math.inf), run.epochs) for run in runs]
