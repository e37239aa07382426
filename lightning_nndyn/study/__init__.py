"""``nndyn sweep``: a sweep described in a YAML file, for those who have none of their own; Optuna runs it."""

from lightning_nndyn.study.plan import Plan, load_plan
from lightning_nndyn.study.run import sweep

__all__ = ["Plan", "load_plan", "sweep"]
