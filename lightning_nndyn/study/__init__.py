"""Sweeps of our own: ``nndyn sweep``, described in a YAML file and run by Optuna, and races."""

from lightning_nndyn.study.config import Plan, load_plan
from lightning_nndyn.study.race import RUNGS, Race, race
from lightning_nndyn.study.run import sweep

__all__ = ["RUNGS", "Plan", "Race", "load_plan", "race", "sweep"]
