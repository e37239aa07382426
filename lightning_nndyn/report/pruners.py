"""Optuna's pruners, fed recorded curves."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lightning_nndyn.errors import MissingExtraError
from lightning_nndyn.report.run import Values

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner

NAMES = {
    "median": "Median rule",
    "asha": "ASHA",
    "hyperband": "Hyperband",
}
"""What they are called on the page."""


def pruner_epochs(name: str, curves: Sequence[Values], seed: int) -> list[int]:
    """After how many epochs a pruner ends each run, when they are trained one after the other.

    Args:
        name: one of `NAMES`.
        curves: validation accuracy after each epoch, in the order of training; gaps are passed over.
        seed: tells Hyperband's brackets apart.

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
            pruner=_made(name, longest),
        )
        return [_trained(study, curve) for curve in curves]


def _made(name: str, longest: int) -> BasePruner:
    """With Optuna's defaults, but for the first epoch as the least that a run is trained."""
    from optuna import pruners

    makers: dict[str, Callable[[], BasePruner]] = {
        "median": pruners.MedianPruner,
        "asha": lambda: pruners.SuccessiveHalvingPruner(min_resource=1),
        "hyperband": lambda: pruners.HyperbandPruner(min_resource=1, max_resource=max(1, longest)),
    }
    return makers[name]()


def _trained(study: Study, curve: Values) -> int:
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
