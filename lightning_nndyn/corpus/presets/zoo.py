"""The preset `zoo`: random small networks, each with an optimizer, a schedule and data drawn at random."""

from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from lightning_nndyn.corpus.presets.base import Preset, check_share, choice, log_uniform
from lightning_nndyn.corpus.presets.zoo_networks import (
    ACTIVATIONS,
    HEADS,
    NORMALISATIONS,
    POOLINGS,
    halving_layers,
)
from lightning_nndyn.corpus.run_config import RunConfig, run_seed
from lightning_nndyn.corpus.training.schedules import SCHEDULES
from lightning_nndyn.errors import CorpusError

SAMPLINGS = ("band", "grid")
GRID = (1e-6, 0.5)
"""Learning rates of "grid": the paper's range."""


class _ImageSet(NamedTuple):
    """The images of a data set, and how many of them runs use."""

    channels: int
    side: int  # pixels
    fewest: int  # training images of a run
    most: int
    shift: int  # pixels of padding for random crops


DATASETS = {
    "digits": _ImageSet(1, 8, 512, 1437, shift=1),
    "cifar10": _ImageSet(3, 32, 1500, 5000, shift=4),
    "imagenet100": _ImageSet(3, 32, 2500, 5000, shift=4),
}
"""The data sets of the zoo."""

_BATCH_SIZES = (32, 64, 128, 256)
_LEAST_BATCHES = 16  # in an epoch: its first snapshot, after a sixteenth, comes after one batch or more
_MOST_WORK = 16e6  # multiplications for an image: a training step takes a core 2/3 ms an image
# Cost of activation, pooling and normalisation for an entry of a map, in multiplications; measured on a CPU.
_ENTRY = {"none": 60, "batch": 110, "layer": 220, "group": 220}

# Bounds of rate / (1 - momentum) for SGD, whose steps have that length in the long run, and of the rate for
# Adam. Within them 43 of 49 runs reached twice the accuracy of guessing in 15 epochs.
_SGD_BAND = (0.005, 2.0)
_ADAM_BAND = (1e-4, 0.03)


@dataclass(frozen=True)
class ZooPreset(Preset):
    """Random networks on random data sets, with random optimisers, rates, schedules and shares of the data.

    Run `index` has a random generator of its own, so a corpus can be extended at any time.

    Raises:
        CorpusError: A setting is out of its range.
    """

    _: KW_ONLY
    planned: int = 2000

    @property
    def datasets(self) -> tuple[str, ...]:
        """The three data sets."""
        return tuple(DATASETS)

    def __len__(self) -> int:
        """Number of runs; a bound that `planned` may raise."""
        return self.planned

    def config(self, index: int, sampling: str = "grid") -> RunConfig:
        """The configuration of run `index`, its learning rate from the "band" or from the whole "grid"."""
        drawn = draw_run(np.random.default_rng([self.seed, index]), sampling)
        if self.images is not None:
            drawn["images"] = min(drawn["images"], self.images)
        return RunConfig(
            preset=self.name,
            index=index,
            seed=run_seed(self.seed, index),
            epochs=self.epochs,
            patience=self.patience,
            test_images=self.test_images,
            size=None if drawn["dataset"] == "digits" else self.size,  # digits are 8x8 as they come
            precision=self.precision,
            sampling=sampling,
            **drawn,
        )

    def order(self, band_share: float = 0.0) -> list[tuple[int, str]]:
        """The runs one by one, each with how it is drawn; see `Preset.order`."""
        check_share(band_share)
        banded = [int((index + 1) * band_share) for index in range(-1, len(self))]
        return [(i, "band" if banded[i + 1] > banded[i] else "grid") for i in range(len(self))]

    def departures(self) -> list[str]:
        """The corpus's departures from the paper's protocol, in words."""
        drawn = "network, optimizer, learning rate, momentum, weight decay, batch size, dropout, schedule, "
        return [*self.scaling_departures(), f"{drawn}augmentation and share of the data drawn at random"]


def draw_run(random: np.random.Generator, sampling: str) -> dict[str, Any]:
    """The settings of one random run, as JSON-able values: fields of `RunConfig`.

    Args:
        random: Generator of all draws.
        sampling: "band" draws the learning rate from those at which the optimizer trains such networks,
            "grid" from `GRID`; all else is drawn alike.

    Raises:
        CorpusError: `sampling` is neither.
    """
    if sampling not in SAMPLINGS:
        raise CorpusError(f"sampling={sampling!r} is unknown: choose from {', '.join(SAMPLINGS)}")
    dataset = choice(random, ("digits", "cifar10", "cifar10", "imagenet100"))
    offered = DATASETS[dataset]
    # A multiple of four, as batches are: a last batch of a single image would have no variance.
    images = 4 * int(random.integers(offered.fewest // 4, offered.most // 4, endpoint=True))
    batch_sizes = [size for size in _BATCH_SIZES if size * _LEAST_BATCHES <= images]
    return {
        "dataset": dataset,
        "network": "zoo_network",
        "network_options": _draw_affordable(random, dataset),
        **_draw_optimizer(random, sampling),
        "batch_size": choice(random, batch_sizes),
        "dropout": _draw_dropout(random),
        "schedule": choice(random, SCHEDULES),
        "images": images,
        "crop_padding": int(random.integers(2)) * offered.shift,
        "flip": bool(random.random() < 0.5) and dataset != "digits",  # a mirrored digit is another digit
    }


def _draw_optimizer(random: np.random.Generator, sampling: str) -> dict[str, Any]:
    optimizer = choice(random, ("sgd", "sgd", "adam", "adamw"))
    if optimizer == "sgd":
        momentum = choice(random, (0.0, 0.9, 0.9, 0.95))
        low, high = (rate * (1 - momentum) for rate in _SGD_BAND)
    else:
        momentum = choice(random, (0.0, 0.9, 0.9, 0.9))  # beta1
        low, high = _ADAM_BAND
    if sampling == "grid":
        low, high = GRID
    return {
        "optimizer": optimizer,
        "momentum": momentum,
        "learning_rate": log_uniform(random, low, high),
        "weight_decay": _draw_weight_decay(random, optimizer),
    }


def _draw_weight_decay(random: np.random.Generator, optimizer: str) -> float:
    """0 in two of five runs; larger for AdamW, which multiplies it by the learning rate."""
    decay = log_uniform(random, 1e-3, 0.3) if optimizer == "adamw" else log_uniform(random, 1e-5, 5e-3)
    return 0.0 if random.random() < 0.4 else decay


def _draw_dropout(random: np.random.Generator) -> float:
    """0 in two of five runs, else 0.1, 0.2, ..., 0.7."""
    dropout = int(random.integers(1, 7, endpoint=True)) / 10
    return 0.0 if random.random() < 0.4 else dropout


def _draw_affordable(random: np.random.Generator, dataset: str) -> dict[str, Any]:
    """Options of a network within `_MOST_WORK`; drawn again until one is."""
    while True:
        options = _draw_cnn(random) if random.random() < 0.7 else _draw_mlp(random)
        if _work(options, dataset) <= _MOST_WORK:
            return options


def _draw_cnn(random: np.random.Generator) -> dict[str, Any]:
    depth = int(random.integers(1, 8, endpoint=True))
    head = choice(random, HEADS)
    hidden = [_width(random, 32, 128) for _ in range(choice(random, (0, 0, 1, 2)))]
    return {
        "kind": "cnn",
        "widths": _draw_widths(random, depth, 8, 96),
        "kernel": choice(random, (3, 3, 5)),
        "pooling": choice(random, POOLINGS),
        "head": head,
        "hidden": hidden,
        **_draw_layers(random, depth, len(hidden)),
    }


def _draw_mlp(random: np.random.Generator) -> dict[str, Any]:
    depth = int(random.integers(1, 6, endpoint=True))
    return {
        "kind": "mlp",
        "widths": _draw_widths(random, depth, 16, 256),
        **_draw_layers(random, depth, 0),
    }


def _draw_layers(random: np.random.Generator, depth: int, hidden: int) -> dict[str, Any]:
    """Options that all layers share, those of the classifier included."""
    normalisation = choice(random, NORMALISATIONS)
    residual = bool(random.random() < 0.4) and depth > 1
    scales = _init_scales(depth + hidden, normalisation != "none", residual)
    return {
        "activation": choice(random, tuple(ACTIVATIONS)),
        "normalisation": normalisation,
        "residual": residual,
        "init_scale": log_uniform(random, *scales),
    }


def _init_scales(depth: int, normalised: bool, residual: bool) -> tuple[float, float]:
    """Bounds within which activations neither vanish nor explode with depth."""
    if normalised or depth <= 3:
        return 0.6, 3.0
    return (0.6, 2.0) if residual else (1.5, 3.0)


def _draw_widths(random: np.random.Generator, depth: int, low: int, high: int) -> list[int]:
    """Widths in rising order (half of the time), all equal, or in any order."""
    widths = [_width(random, low, high) for _ in range(depth)]
    order = choice(random, ("rising", "rising", "same", "any"))
    if order == "same":
        return [widths[0]] * depth
    return sorted(widths) if order == "rising" else widths


def _width(random: np.random.Generator, low: int, high: int) -> int:
    """A multiple of four, log-uniform."""
    return 4 * round(log_uniform(random, low, high) / 4)


def _work(options: dict[str, Any], dataset: str) -> float:
    """Multiplications of an image's forward pass, with `_ENTRY` for each entry of a map."""
    channels, side, *_ = DATASETS[dataset]
    if options["kind"] == "mlp":
        sizes = [channels * side**2, *options["widths"]]
        return float(sum(before * after for before, after in pairwise(sizes)))
    halve, per_entry = halving_layers(len(options["widths"]), side), _ENTRY[options["normalisation"]]
    total = 0.0
    for layer, (before, width) in enumerate(pairwise([channels, *options["widths"]])):
        after = side // 2 if layer in halve else side
        computed = after if options["pooling"] == "stride" else side
        total += width * computed**2 * (before * options["kernel"] ** 2 + per_entry)
        side = after
    return total
