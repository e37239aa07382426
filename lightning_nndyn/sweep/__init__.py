"""Learning inside a sweep: its finished runs predict which of the running ones will end among the best.

In: `SweepRun`s, that is hyperparameters, what was read of the weights and the learning curve, and final
values. Out: a `SweepForecast` and a decision (stop or go on) for a run at one time. The weights' movement is
that of the signature (section 3.2 of the paper); the sweep's own predictor is not in the paper. This package
knows neither Lightning nor any tuner: a tuner joins by a `SweepMember`.
"""

from lightning_nndyn.sweep.cohort_rule import DEFAULT_KEEP, ChanceRule, CohortRule, Standing, reaches_rung
from lightning_nndyn.sweep.predictor import MAX_FITTED_RUNS, SweepForecast, SweepPredictor, shared_predictor
from lightning_nndyn.sweep.run import Reading, SweepReading, SweepRun, movement_since_start
from lightning_nndyn.sweep.standing import rank
from lightning_nndyn.sweep.trial import SweepMember

__all__ = [
    "DEFAULT_KEEP",
    "MAX_FITTED_RUNS",
    "ChanceRule",
    "CohortRule",
    "Reading",
    "Standing",
    "SweepForecast",
    "SweepMember",
    "SweepPredictor",
    "SweepReading",
    "SweepRun",
    "movement_since_start",
    "rank",
    "reaches_rung",
    "shared_predictor",
]
