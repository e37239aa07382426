"""Optuna's pruners, fed recorded curves."""

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

_CLASSES = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "asha": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
}


def pruner_epochs(
    name: str, curves: Sequence[Sequence[float | None]], seed: int, **settings: float
) -> list[int]:
    """After how many epochs a pruner ends each run, when they are trained one after the other.

    Args:
        name: "median", "percentile", "asha" or "hyperband".
        curves: validation accuracy after each epoch, in the order of training; gaps are passed over.
        seed: tells Hyperband's brackets apart.
        settings: arguments of Optuna's class; its defaults unless given, but for the first epoch as the least
            that halving trains a run.

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
            pruner=_made(name, longest, settings),
        )
        return [_trained(study, curve) for curve in curves]


def _made(name: str, longest: int, settings: Mapping[str, Any]) -> BasePruner:
    from optuna import pruners

    least: dict[str, dict[str, int]] = {
        "asha": {"min_resource": 1},
        "hyperband": {"min_resource": 1, "max_resource": max(1, longest)},
    }
    return getattr(pruners, _CLASSES[name])(**{**least.get(name, {}), **settings})


def _trained(study: Study, curve: Sequence[float | None]) -> int:
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
    """Optuna tells of each study that is made."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
