"""What the demo trains: learning rates, dropouts and seeds that are not in the corpus."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lightning_nndyn.corpus.presets import get_preset
from lightning_nndyn.corpus.run_config import RunConfig

PRESET = "lenet5-digits"
_RATES = (1e-4, 0.45)  # the upper half of the paper's grid: with lower rates, networks hardly learn
_DROPOUTS = (0.0, 0.9)


def demo_configurations(runs: int, seed: int) -> list[RunConfig]:
    """Random configurations, spread evenly over the logarithm of the learning rate and over dropout.

    None is in the corpus: learning rates and dropouts have more digits than the grid's, and seeds count from
    1,000,000 times ``seed`` where the corpus draws from all 32-bit numbers.

    Args:
        runs: how many.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    rates = np.exp(_spread(random, runs) * np.log(_RATES[1] / _RATES[0]) + np.log(_RATES[0]))
    dropouts = _spread(random, runs) * (_DROPOUTS[1] - _DROPOUTS[0]) + _DROPOUTS[0]
    base = get_preset(PRESET).config(0)
    return [
        replace(
            base,
            index=index,
            seed=1_000_000 * (seed + 1) + index,
            learning_rate=_off_grid(float(rate)),
            dropout=round(float(dropout), 2) + 0.003,
            sampling="demo",
        )
        for index, (rate, dropout) in enumerate(zip(rates, dropouts, strict=True))
    ]


def _spread(random: np.random.Generator, count: int) -> np.ndarray:
    """One uniform draw from each of ``count`` equal parts of (0, 1), in random order: a Latin hypercube."""
    return (random.permutation(count) + random.random(count)) / count


def _off_grid(rate: float) -> float:
    """Three significant digits, the last one odd: the grid's rates have two, the second of them 0 or 5."""
    exponent = np.floor(np.log10(rate))
    digits = int(rate / 10.0 ** (exponent - 2)) | 1
    return float(f"{digits}e{int(exponent) - 2}")
