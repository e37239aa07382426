"""Recorded runs, met again as sweeps in random order: what each way of stopping spends, and what it misses.

`runs` draws the sweeps; `policies` (with `pruners`, Optuna's, and `surrogate`) are ways of stopping, of which
`entrants` lists those that need nothing but the sweep; `held_out` asks our predictors about runs that they
were fitted without. `outcome` counts, `parts` keeps what is finished, `page` shows it, and `command` leads
through all of it.
"""

from lightning_nndyn.evaluation.replay.outcome import Outcome
from lightning_nndyn.evaluation.replay.policies import SweepPolicy
from lightning_nndyn.evaluation.replay.sampled_sweeps import Run

__all__ = ["Outcome", "Run", "SweepPolicy"]
