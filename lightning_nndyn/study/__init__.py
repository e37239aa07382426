"""Sweeps that this package runs itself: ``nndyn sweep``, from a YAML file and by Optuna, and races.

In: a function that trains one run, and a search space (`SweepConfig`) or a list of candidates. Out: an Optuna
study, or a `RaceResult`. A sweep stops runs by what its own runs teach (`lightning_nndyn.sweep`); a race is
successive halving, by comparing runs with each other or by what a predictor of section 3.2 predicts.
"""

from lightning_nndyn.study.config import Plan, SweepConfig, load_config, load_plan
from lightning_nndyn.study.race import race
from lightning_nndyn.study.race_result import RUNGS, Race, RaceResult
from lightning_nndyn.study.run import sweep

__all__ = [
    "RUNGS",
    "Plan",
    "Race",
    "RaceResult",
    "SweepConfig",
    "load_config",
    "load_plan",
    "race",
    "sweep",
]
