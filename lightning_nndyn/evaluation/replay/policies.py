"""Stopping rules for the runs of a sweep, and the list of those that are compared.

The keys of published rows contain the `repr` of a policy: with another class or field name, or default, its
rows are not recognised and have to be replayed.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning_nndyn.errors import MissingExtraError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
import math
import zlib
from dataclasses import dataclass, field
from typing import Protocol

from lightning_nndyn.corpus.storage.record import patience_epoch
from lightning_nndyn.evaluation.replay.learned_policies import Learned, Surrogate
from lightning_nndyn.evaluation.replay.race import Race
from lightning_nndyn.evaluation.replay.sampled_sweeps import ReplayRun

_CLASSES = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "asha": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
}


def pruner_epochs(
    name: str, curves: Sequence[Sequence[float | None]], seed: int, **settings: float
) -> list[int]:
    """The epochs after which a pruner ends each run, when runs are trained one after the other.

    Args:
        name: "median", "percentile", "asha" or "hyperband".
        curves: validation accuracy after each epoch, in the order of training; None is not reported.
        seed: of the brackets that Hyperband draws.
        settings: arguments of Optuna's class; its defaults unless given, except that halving begins after one
            epoch.

    Raises:
        MissingExtraError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "optuna", "The comparison with its pruners") from error
    longest = max((len(curve) for curve in curves), default=1)
    with _quiet():
        study = optuna.create_study(
            direction="maximize",
            # Hyperband draws a run's bracket from the study's name.
            study_name=f"{name}-{seed}",
            sampler=optuna.samplers.RandomSampler(seed),
            pruner=_pruner(name, longest, settings),
        )
        return [_train(study, curve) for curve in curves]


def _pruner(name: str, longest: int, settings: Mapping[str, Any]) -> BasePruner:
    from optuna import pruners

    resources: dict[str, dict[str, int]] = {
        "asha": {"min_resource": 1},
        "hyperband": {"min_resource": 1, "max_resource": max(1, longest)},
    }
    return getattr(pruners, _CLASSES[name])(**{**resources.get(name, {}), **settings})


def _train(study: Study, curve: Sequence[float | None]) -> int:
    from optuna.trial import TrialState

    trial, best = study.ask(), 0.0
    for epoch, value in enumerate(curve, start=1):
        if value is None:
            continue
        best = max(best, value)
        trial.report(value, epoch)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return epoch
    study.tell(trial, best)
    return len(curve)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences Optuna, which logs each new study and trial."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


PATIENCES = (3, 10)
"""Epochs without a better accuracy; 10 is the paper's."""

PERCENTILES = (10, 25, 75)
"""Of Optuna's `PercentilePruner`: per cent of runs that continue; `MedianPruner` is 50."""

REDUCTIONS = (2, 3, 4)
"""One of so many runs is promoted at each rung. Optuna's default is 4 for halving, 3 for Hyperband."""

TOP_SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of the runs that continue after they were ranked once."""

RACED_SHARES = (0.02, 0.04, 0.06, 0.1, 0.2, 0.3)
"""Shares of the runs that a race trains to their end."""

BEGUN_SHARES = (0.1, 0.25, 0.5)
"""Shares of the runs that are begun, by their hyperparameters."""

LEARNED_RATES = (0.05, 0.2)
"""False-stop rates of the predictor that learns in the sweep; 5 % is its default."""


class SweepPolicy(Protocol):
    """A stopping rule.

    Attributes:
        family: the name that all settings of a rule share.
        setting: as text; empty where the family has one setting.
        ours: whether it is a rule of this package.
    """

    @property
    def family(self) -> str: ...  # noqa: D102

    @property
    def setting(self) -> str: ...  # noqa: D102

    @property
    def ours(self) -> bool: ...  # noqa: D102

    def epochs(self, runs: Sequence[ReplayRun]) -> list[float]:
        """The epochs after which each run ends, when they come in this order; 0 for one that is not begun."""
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

    def epochs(self, runs: Sequence[ReplayRun]) -> list[float]:
        """See `SweepPolicy`."""
        return [run.epochs for run in runs]


@dataclass(frozen=True)
class Patience:
    """A run ends after so many epochs without a better accuracy."""

    patience: int
    family: str = "patience"
    ours: bool = False

    @property
    def setting(self) -> str:
        """The patience, as text."""
        return str(self.patience)

    def epochs(self, runs: Sequence[ReplayRun]) -> list[float]:
        """See `SweepPolicy`."""
        ends = [patience_epoch(run.curve, self.patience) for run in runs]
        return [
            run.epochs if end is None else min(float(end), run.epochs)
            for run, end in zip(runs, ends, strict=True)
        ]


@dataclass(frozen=True)
class Pruner:
    """One of Optuna's pruners, which gets the accuracy after each epoch.

    Attributes:
        name: see `pruner_epochs`.
        family: see `SweepPolicy`.
        setting: see `SweepPolicy`.
        arguments: of Optuna's class, where they are not the defaults.
    """

    name: str
    family: str
    setting: str = ""
    arguments: Mapping[str, float] = field(default_factory=dict)
    ours: bool = False

    def epochs(self, runs: Sequence[ReplayRun]) -> list[float]:
        """See `SweepPolicy`."""
        # Each order has its own seed, as each study has its own name, and always the same.
        seed = zlib.crc32(repr([run.index for run in runs]).encode())
        ends = pruner_epochs(self.name, [run.curve for run in runs], seed, **self.arguments)
        return [min(float(end), run.epochs) for run, end in zip(runs, ends, strict=True)]


@dataclass(frozen=True)
class BestShare:
    """All runs are trained for a while, then ranked; the best of them are trained to their end.

    Attributes:
        share: of the runs that continue, at least one.
        after: epochs before the ranking.
        scores: what runs are ranked by, by their indices; None for the best accuracy so far.
        family: see `SweepPolicy`.
    """

    share: float
    after: float = 1.0
    scores: Mapping[int, float] | None = None
    family: str = "one epoch, then the best"
    ours: bool = False

    @property
    def setting(self) -> str:
        """The share, as text."""
        return f"{100 * self.share:g} %"

    def epochs(self, runs: Sequence[ReplayRun]) -> list[float]:
        """See `SweepPolicy`."""
        kept = max(1, round(self.share * len(runs)))
        scores = [self._score(run) for run in runs]
        best = set(sorted(range(len(runs)), key=lambda index: -scores[index])[:kept])
        return [
            run.epochs if index in best else min(self.after, run.epochs) for index, run in enumerate(runs)
        ]

    def _score(self, run: ReplayRun) -> float:
        if run.epochs <= self.after and not run.trainable:
            return -math.inf  # it has diverged
        return run.best_until(self.after) if self.scores is None else self.scores[run.index]


@dataclass(frozen=True)
class Decided:
    """Each run ends at a time that does not depend on the other runs.

    Attributes:
        stops: the epochs after which runs are stopped, by their indices; all others are trained to their end.
        family: see `SweepPolicy`.
        setting: see `SweepPolicy`.
    """

    stops: Mapping[int, float]
    family: str
    setting: str
    ours: bool = True

    def epochs(self, runs: Sequence[ReplayRun]) -> list[float]:
        """See `SweepPolicy`."""
        return [min(self.stops.get(run.index, math.inf), run.epochs) for run in runs]


def policies_to_compare() -> list[SweepPolicy]:
    """All stopping rules that need nothing but the runs of the sweep.

    Those of predictors that were fitted to other runs are added to them, see `held_out_policies`.
    """
    return [
        NoStopping(),
        *(Patience(epochs) for epochs in PATIENCES),
        Pruner("median", "MedianPruner"),
        *(
            Pruner("percentile", "PercentilePruner", f"{kept} %", {"percentile": float(kept)})
            for kept in PERCENTILES
        ),
        *(_halving("asha", "SuccessiveHalvingPruner", factor) for factor in REDUCTIONS),
        *(_halving("hyperband", "HyperbandPruner", factor) for factor in REDUCTIONS),
        *(BestShare(share) for share in TOP_SHARES),
        *(Race(share) for share in RACED_SHARES),
        *(Surrogate(share) for share in BEGUN_SHARES),
        *(Learned(rate) for rate in LEARNED_RATES),
        Learned(LEARNED_RATES[0], reads="weights"),
    ]


def _halving(name: str, family: str, factor: int) -> Pruner:
    return Pruner(name, family, f"1/{factor}", {"reduction_factor": factor})
