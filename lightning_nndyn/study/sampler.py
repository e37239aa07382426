"""What a sweep with a seed tries next: the same for the same trial, in whichever process it is drawn."""

from __future__ import annotations

from typing import Any

import optuna


class SeededByTrial(optuna.samplers.BaseSampler):
    """Optuna's TPE, seeded anew for each trial by its number.

    A sampler with one seed begins its draws again in each process: a sweep that goes on after it was cut
    would repeat its first trials, and workers side by side would draw the same ones.

    Args:
        seed: of the sweep.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._tpe = optuna.samplers.TPESampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """Begins a trial's draws."""
        self._tpe = optuna.samplers.TPESampler(seed=self._seed + trial.number)
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(self, *given: Any) -> dict[str, Any]:
        """As TPE."""
        return self._tpe.infer_relative_search_space(*given)

    def sample_relative(self, *given: Any) -> dict[str, Any]:
        """As TPE."""
        return self._tpe.sample_relative(*given)

    def sample_independent(self, *given: Any) -> Any:
        """As TPE."""
        return self._tpe.sample_independent(*given)

    def after_trial(self, *given: Any) -> None:
        """As TPE."""
        self._tpe.after_trial(*given)
