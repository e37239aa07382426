"""A race that a sweep's YAML file describes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_nndyn.errors import MissingExtraError, SweepError
from lightning_nndyn.study.config import Plan
from lightning_nndyn.study.quiet import quiet
from lightning_nndyn.study.race.run import RUNGS, race
from lightning_nndyn.study.race.state import Race


def race_of(plan: Plan, watch: Callable[[Race], None] = lambda race: None) -> Race:
    """Draws the plan's candidates, and races them.

    Args:
        plan: with a `race` part.
        watch: see `race`.

    Returns:
        The race.

    Raises:
        SweepError: see `race`; or a part of the plan is none.
        MissingExtraError: Optuna, which draws the candidates, is not installed.
    """
    train = plan.function()
    predictor = plan.race["predictor"]
    own = predictor and (plan.file.parent / predictor)
    rungs = [(float(rung["epochs"]), float(rung["keep"])) for rung in plan.race.get("rungs", [])]
    with quiet():
        try:
            return race(
                train,
                candidates(plan),
                file=plan.file.parent / Path(plan.storage),
                predictor=own if own and own.is_file() else predictor,
                monitor=str(plan.monitor),
                rungs=rungs or RUNGS,
                callback=plan.callback,
                watch=watch,
            )
        except ValueError as error:
            raise SweepError(f"{plan.file}: {error}") from error


def candidates(plan: Plan) -> list[dict[str, Any]]:
    """As many as there are to be trials, drawn at random; the seed is 0 if not given.

    Raises:
        MissingExtraError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "optuna", "nndyn sweep") from error
    with quiet():
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=plan.seed or 0))
        return [plan.suggest(study.ask()) for _ in range(plan.trials)]
