"""The place of a training step in its schedule, and the learning rate there."""

import math

from lightning_nndyn.corpus.presets.zoo import schedule_factor
from lightning_nndyn.corpus.run_config import RunConfig

_RISE = 0.3  # of the training, of one cycle; torch's default, as are the two factors
_CYCLE_START, _CYCLE_END = 1 / 25, 1 / 25e4


def learning_rate_factor(config: RunConfig, progress: float) -> float:
    """The multiplier of the learning rate at `progress`, within [0, 1], of the whole training.

    "one_cycle" rises from 1/25 to 1 over three tenths of the training and falls to nearly 0, both along a
    cosine; the others are `schedule_factor`'s. `warmup` goes before each of them: over that share of the
    training the factor rises from a hundredth to 1 on a straight line, and the schedule takes the rest.

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


def _along_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
