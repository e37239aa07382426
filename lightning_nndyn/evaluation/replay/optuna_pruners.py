"""Optuna's pruners, applied to recorded learning curves."""

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
