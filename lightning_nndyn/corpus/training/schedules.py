"""Learning rate schedules."""

import math

from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.errors import CorpusError

SCHEDULES = ("constant", "cosine", "step", "warmup_cosine")
"""Those of the preset `zoo`, see `schedule_factor`."""

_WARM_UP = 0.1  # of the training, of "warmup_cosine"
_RISE = 0.3  # of the training, of one cycle; torch's default, as are the two factors
_CYCLE_START, _CYCLE_END = 1 / 25, 1 / 25e4


def learning_rate_factor(config: RunConfig, progress: float) -> float:
    """The multiplier of the learning rate at `progress`, within [0, 1], of the whole training.

    "one_cycle" rises from 1/25 to 1 over 30 % of the training and falls to nearly 0, both along a cosine;
    for the others see `schedule_factor`. With `warmup`, the factor first rises linearly from 0.01 to 1
    over that share of the training, and the schedule takes the rest.

    Raises:
        CorpusError: There is no such schedule.
    """
    if progress < config.warmup:
        return 0.01 + 0.99 * progress / config.warmup
    if config.warmup:
        progress = (progress - config.warmup) / (1 - config.warmup)
    if config.schedule != "one_cycle":
        return schedule_factor(config.schedule, progress)
    if progress < _RISE:
        return _along_cosine(_CYCLE_START, 1.0, progress / _RISE)
    return _along_cosine(1.0, _CYCLE_END, (progress - _RISE) / (1 - _RISE))


def schedule_factor(schedule: str, progress: float) -> float:
    """The multiplier of the learning rate at `progress`, in [0, 1), of the whole training.

    "cosine" falls to 0, "step" falls to a tenth at 1/2 and to a hundredth at 3/4, "warmup_cosine" rises from
    a tenth over the first tenth of the training and then falls like "cosine".

    Raises:
        CorpusError: There is no such schedule.
    """
    if schedule not in SCHEDULES:
        raise CorpusError(f"schedule={schedule!r} is unknown: choose from {', '.join(SCHEDULES)}")
    if schedule == "constant":
        return 1.0
    if schedule == "step":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
    if schedule == "warmup_cosine":
        if progress < _WARM_UP:
            return 0.1 + 0.9 * progress / _WARM_UP
        progress = (progress - _WARM_UP) / (1 - _WARM_UP)
    return (1 + math.cos(math.pi * progress)) / 2


def _along_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
