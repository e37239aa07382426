"""What a sweep teaches about itself: its finished runs tell which of the next ones will end among the best.

`SweepPredictor` learns from `SweepRun`s; it knows neither Lightning nor any tuner.
"""

from lightning_nndyn.sweep.forecast import Forecast
from lightning_nndyn.sweep.predictor import MOST, SweepPredictor
from lightning_nndyn.sweep.run import Reading, SweepRun, movement_since_start
from lightning_nndyn.sweep.shared import shared_predictor
from lightning_nndyn.sweep.trial import SweepMember

__all__ = [
    "MOST",
    "Forecast",
    "Reading",
    "SweepMember",
    "SweepPredictor",
    "SweepRun",
    "movement_since_start",
    "shared_predictor",
]
