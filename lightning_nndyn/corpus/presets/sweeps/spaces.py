"""Search spaces: which settings vary within a sweep, and between which bounds."""

import math
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import numpy as np

from lightning_nndyn.corpus.presets.base import choice, log_uniform
from lightning_nndyn.corpus.presets.sweeps.layers import INITIALISATIONS
from lightning_nndyn.corpus.presets.sweeps.tasks import SweepTask

STYLES = ("narrow", "usual", "wide")
_RATE_BOUNDS = {"narrow": (1 / 4, 3.0), "usual": (1 / 30, 10.0), "wide": (1e-3, 100.0)}
"""Bounds of the learning rate around a good one, as factors."""

# A good learning rate of each optimizer, as a multiple of Adam's.
_OPTIMIZERS = {"sgd": 20.0, "nesterov": 20.0, "adam": 1.0, "adamw": 1.0, "rmsprop": 0.5, "lion": 0.12}
_DECOUPLED = ("adamw", "lion")
_SGD = ("sgd", "nesterov")
_ONE_RANGE = (1e-4, 0.3)  # of the learning rate, where all optimizers share one range
_GRIDS = (
    (5, 4), (6, 4), (7, 3), (8, 3), (7, 4), (8, 4), (5, 5), (6, 5), (5, 2, 2), (6, 2, 2), (7, 2, 2),
    (8, 2, 2), (4, 3, 2), (5, 3, 2), (3, 3, 3),
)  # fmt: skip
_MOST_RUNS, _FEWEST_RUNS = 32, 20

# Probability that a setting is searched.
_SHARES = {
    "learning_rate": 0.94, "weight_decay": 0.55, "batch_size": 0.45, "dropout": 0.45, "label_smoothing": 0.2,
    "gradient_clip": 0.2, "warmup": 0.25, "schedule": 0.3, "augmentation": 0.35, "initialisation": 0.12,
    "init_scale": 0.12, "width": 0.25, "depth": 0.2, "normalisation": 0.2, "activation": 0.2, "momentum": 0.3,
}  # fmt: skip
_RARER_IF_NARROW = 0.7


@dataclass(frozen=True)
class Dimension:
    """A searched setting: `choices`, or a range, uniform or log-uniform."""

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = False

    def draw(self, random: np.random.Generator) -> Any:
        """A random value."""
        if self.choices:
            return choice(random, self.choices)
        if self.logarithmic:
            return log_uniform(random, self.low, self.high)
        return round(float(random.uniform(self.low, self.high)), 3)

    def levels(self, count: int) -> list[Any]:
        """At most `count` values for a grid, evenly spread."""
        if self.choices:
            return list(self.choices[:count])
        if self.logarithmic:
            return [float(f"{level:.3g}") for level in np.geomspace(self.low, self.high, count)]
        return [round(float(level), 3) for level in np.linspace(self.low, self.high, count)]


@dataclass(frozen=True)
class Space:
    """A search space and how it is searched.

    Attributes:
        style: One of `STYLES`, the width of its bounds.
        fixed: Settings that are equal in all runs.
        dimensions: Settings that are searched.
        relative: Whether learning rates are multiples of `good_rate` of the run's optimizer.
        grid: The searched settings of each run of a grid search; empty for random search.
        runs: Number of runs.
    """

    style: str
    fixed: dict[str, Any]
    dimensions: tuple[Dimension, ...]
    relative: bool
    grid: tuple[dict[str, Any], ...]
    runs: int

    def values(self, random: np.random.Generator, run: int) -> dict[str, Any]:
        """The searched settings of a run."""
        if self.grid:
            return self.grid[run]
        return {dimension.name: dimension.draw(random) for dimension in self.dimensions}


def good_rate(task: SweepTask, optimizer: str) -> float:
    """A learning rate in the middle of those that train the network."""
    return task.about.rate * _OPTIMIZERS[optimizer]


def draw_space(random: np.random.Generator, task: SweepTask) -> Space:
    """The search space of a sweep."""
    style = STYLES[int(random.choice(3, p=(0.3, 0.4, 0.3)))]
    optimizers = _draw_optimizers(random, task, style)
    fixed = _draw_fixed(random, task, optimizers)
    rarer = _RARER_IF_NARROW if style == "narrow" else 1.0
    wanted = {name for name, share in _SHARES.items() if random.random() < share * rarer}
    wanted |= {"learning_rate"} if len(wanted) < 2 or random.random() < 0.5 else set()
    one_range = len(optimizers) > 1 and style != "narrow" and random.random() < 0.4
    found = [_rate(random, task, style, optimizers, one_range)] if "learning_rate" in wanted else []
    if len(optimizers) > 1:
        found.append(Dimension("optimizer", tuple(optimizers)))
    for dimension in _others(random, task, style, optimizers):
        if dimension.name in wanted and len(dimension.choices) != 1:
            found.append(dimension)
    if len(found) < 2:
        found.append(Dimension("dropout", low=0.0, high=0.5))
    if not any(dimension.name == "learning_rate" for dimension in found):
        # As in a sweep over the rest by somebody who knows a good rate.
        fixed["learning_rate"] = log_uniform(random, 0.5, 2.0)
    runs = int(random.integers(_FEWEST_RUNS, _MOST_RUNS + 1))
    grid = _draw_grid(random, found) if random.random() < 0.3 else []
    relative = "learning_rate" in fixed or not one_range
    return Space(style, fixed, tuple(found), relative, tuple(grid), len(grid) or runs)


def _draw_optimizers(random: np.random.Generator, task: SweepTask, style: str) -> list[str]:
    """One for all runs, or some to choose from."""
    names = list(_OPTIMIZERS)
    shares = (0.1, 0.1, 0.15, 0.4, 0.1, 0.15) if task.about.adaptive else (0.25, 0.15, 0.2, 0.2, 0.1, 0.1)
    count = int(random.integers(2, 5)) if random.random() < (0.2 if style == "narrow" else 0.4) else 1
    return [str(name) for name in random.choice(names, count, replace=False, p=shares)]


def _draw_fixed(random: np.random.Generator, task: SweepTask, optimizers: list[str]) -> dict[str, Any]:
    """Values of the settings that are not searched."""
    unnormalised = task.options["normalisation"] == "none" and task.side > 0
    batch_sizes = task.batch_sizes
    return {
        "optimizer": optimizers[0],
        "momentum": 0.9,
        "weight_decay": choice(random, (0.0, 0.0, 1e-4, 5e-4)),
        "batch_size": batch_sizes[len(batch_sizes) // 2],
        "dropout": choice(random, (0.0, 0.0, 0.1, 0.2)),
        "label_smoothing": choice(random, (0.0, 0.0, 0.0, 0.1)),
        "gradient_clip": choice(random, (None,) * (2 if task.about.adaptive else 3) + (1.0,)),
        "warmup": choice(random, (0.0, 0.1) if task.about.adaptive else (0.0, 0.0, 0.05)),
        "schedule": choice(random, ("cosine", "cosine", "constant", "one_cycle", "step")),
        "augmentation": choice(random, _augmentations(task)),
        "initialisation": choice(random, ("he", "he", "default")) if unnormalised else "default",
        "init_scale": 1.0,
    }


def _rate(
    random: np.random.Generator, task: SweepTask, style: str, optimizers: list[str], one_range: bool
) -> Dimension:
    if one_range:
        return Dimension("learning_rate", low=_ONE_RANGE[0], high=_ONE_RANGE[1], logarithmic=True)
    off = log_uniform(random, 0.5, 2.0)  # a user's range is not centred exactly
    low, high = (float(f"{off * bound:.3g}") for bound in _RATE_BOUNDS[style])
    return Dimension("learning_rate", low=low, high=high, logarithmic=True)


def _others(
    random: np.random.Generator, task: SweepTask, style: str, optimizers: list[str]
) -> list[Dimension]:
    """All dimensions besides optimizer and learning rate."""
    narrow, wide = style == "narrow", style == "wide"
    decays = (1e-3, 0.3) if all(name in _DECOUPLED for name in optimizers) else (1e-6, 1e-2 if wide else 2e-3)
    width, depth = task.options["width"], task.options["depth"]
    momenta: tuple[float, ...] = (0.8, 0.9, 0.95) if narrow else (0.5, 0.9, 0.95, 0.99)
    clips = (None, 1.0, 5.0) if narrow else (None, 0.1, 1.0, 5.0)
    found = [
        Dimension("weight_decay", low=decays[0], high=decays[1], logarithmic=True),
        Dimension("batch_size", _some(random, task.batch_sizes)),
        Dimension("dropout", low=0.0, high=0.3 if narrow else 0.8 if wide else 0.5),
        Dimension("label_smoothing", _some(random, (0.0, 0.05, 0.1, 0.2))),
        Dimension("gradient_clip", _some(random, clips)),
        Dimension("warmup", _some(random, (0.0, 0.05, 0.1, 0.2))),
        Dimension("schedule", _some(random, ("cosine", "one_cycle", "step", "constant"))),
        Dimension("augmentation", _some(random, tuple(dict.fromkeys(_augmentations(task))))),
        Dimension("initialisation", _some(random, INITIALISATIONS)),
        Dimension("init_scale", low=0.5 if narrow else 0.2, high=2.0 if narrow else 4.0, logarithmic=True),
        Dimension("width", _some(random, (width // 2 // 4 * 4, width, 3 * width // 2 // 4 * 4))),
        Dimension("depth", _some(random, tuple(sorted({max(1, depth - 1), depth, depth + 1})))),
        Dimension("normalisation", _some(random, tuple(dict.fromkeys(task.about.normalisations)))),
        Dimension("activation", _some(random, tuple(dict.fromkeys(task.about.activations)))),
    ]
    if task.family == "resnet":  # each sweep fixes one, so that there are sweeps with each
        found = [dimension for dimension in found if dimension.name != "normalisation"]
    if all(name in _SGD for name in optimizers):
        found.append(Dimension("momentum", momenta))
    return found


def _draw_grid(random: np.random.Generator, dimensions: list[Dimension]) -> list[dict[str, Any]]:
    """All combinations of some values of the first two or three dimensions; empty if they are too few."""
    shapes = [shape for shape in _GRIDS if len(shape) <= len(dimensions)]
    shape = choice(random, shapes)
    axes = dimensions[: len(shape)]
    levels = [axis.levels(count) for axis, count in zip(axes, shape, strict=True)]
    if not _FEWEST_RUNS <= math.prod(map(len, levels)) <= _MOST_RUNS:
        return []
    names = [axis.name for axis in axes]
    return [dict(zip(names, values, strict=True)) for values in islice(product(*levels), _MOST_RUNS)]


def _augmentations(task: SweepTask) -> tuple[str, ...]:
    if task.side == 0:
        return ("none",)
    if task.dataset == "digits":  # a mirrored digit is another digit
        return ("none", "crop")
    return ("none", "flip", "crop", "crop and flip", "crop and flip")


def _some(random: np.random.Generator, choices: tuple[Any, ...]) -> tuple[Any, ...]:
    """Two or more of the choices, in their order."""
    if len(choices) <= 2:
        return choices
    count = int(random.integers(2, len(choices) + 1))
    return tuple(choices[index] for index in sorted(random.permutation(len(choices))[:count]))
