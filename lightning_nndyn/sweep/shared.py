"""One predictor for all runs of a sweep that one process trains: learning takes longer than deciding."""

from __future__ import annotations

import threading
from typing import Any

from lightning_nndyn.sweep.predictor import SweepPredictor


def shared_predictor(
    shared: dict[str, Any], settings: SweepPredictor, name: str = ""
) -> tuple[threading.RLock, SweepPredictor]:
    """The predictor that all with the same settings share, and what to hold while it is used: threads may be.

    Args:
        shared: what the runs of a sweep share in this process.
        settings: one with these settings; it learns nothing itself, as another sweep may be given it too.
        name: tells apart predictors that read runs in different ways.
    """
    numbers = (settings.n_startup_trials, settings.good_share, settings.max_false_stop_rate)
    key = f"predictor {name} {settings.direction} {numbers}"
    fresh = threading.RLock(), settings.unlearned()
    found: tuple[threading.RLock, SweepPredictor] = shared.setdefault(key, fresh)
    return found
