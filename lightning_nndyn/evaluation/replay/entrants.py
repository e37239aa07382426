"""All ways of stopping that are replayed, with the settings that are tried of each."""

from __future__ import annotations

from lightning_nndyn.evaluation.replay.hyperparameter_forest import Surrogate
from lightning_nndyn.evaluation.replay.policies import (
    BestShare,
    NoStopping,
    Patience,
    Pruner,
    SweepPolicy,
)
from lightning_nndyn.evaluation.replay.race import Race
from lightning_nndyn.evaluation.replay.sweep_predictor import Learned

PATIENCES = (3, 10)
"""Epochs without a better accuracy; 10 is the paper's."""

PERCENTILES = (10, 25, 75)
"""Of Optuna's `PercentilePruner`: the share of runs that it lets go on, in percent; `MedianPruner` is 50."""

REDUCTIONS = (2, 3, 4)
"""One run in so many goes on at each rung. Optuna's default is 4 for successive halving, 3 for Hyperband."""

TOP_SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Of the runs that go on after one epoch."""

RACED_SHARES = (0.02, 0.04, 0.06, 0.1, 0.2, 0.3)
"""Of the runs that a race trains to their end."""

BEGUN_SHARES = (0.1, 0.25, 0.5)
"""Of the runs that begin, by what their hyperparameters promise."""

LEARNED_RATES = (0.05, 0.2)
"""False stops that a predictor learned in the sweep is allowed; 5 % is the default."""


def entrants() -> list[SweepPolicy]:
    """Those that need nothing but the sweep's own runs.

    Predictors that were fitted elsewhere are added to them, see `held_out_policies`.
    """
    return [
        NoStopping(),
        *(Patience(epochs) for epochs in PATIENCES),
        Pruner("median", "MedianPruner"),
        *(
            Pruner("percentile", "PercentilePruner", f"{kept} %", {"percentile": float(kept)})
            for kept in PERCENTILES
        ),
        *(_halving("asha", "SuccessiveHalvingPruner", factor) for factor in REDUCTIONS),
        *(_halving("hyperband", "HyperbandPruner", factor) for factor in REDUCTIONS),
        *(BestShare(share) for share in TOP_SHARES),
        *(Race(share) for share in RACED_SHARES),
        *(Surrogate(share) for share in BEGUN_SHARES),
        *(Learned(rate) for rate in LEARNED_RATES),
        Learned(LEARNED_RATES[0], reads="weights"),
    ]


def _halving(name: str, family: str, factor: int) -> Pruner:
    return Pruner(name, family, f"1/{factor}", {"reduction_factor": factor})
