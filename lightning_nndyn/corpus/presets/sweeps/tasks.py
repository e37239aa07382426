"""Tasks of sweeps: network, data and epochs, drawn so that a run takes a few seconds on one core."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_nndyn.corpus.presets.base import choice, log_uniform
from lightning_nndyn.corpus.presets.sweeps.families import FAMILIES, IMAGES, Family, Size, plan, sizes_for
from lightning_nndyn.corpus.training.sequences import SEQUENCE_TASKS
from lightning_nndyn.corpus.training.tables import CARRIED_TABLES

_SECONDS = (4.0, 12.0)  # of one core, for the training of a run
_EPOCHS = (8, 40)
_STEPS = (5, 500)  # an epoch
_BATCH_SIZES = (8, 16, 32, 64, 128, 256)
_USUAL_BATCH = 32
_TESTING = 1.25  # what testing adds to the cost
_FEWEST = 400  # inputs trained on, where there are so many
_MOST = 6000
_FEWEST_PER_CLASS = 20
_CLASSES = {
    "digits": (3, 5, 10, 10, 10),
    "cifar10": (2, 3, 4, 5, 7, 10, 10, 10, 10),
    "imagenet100": (5, 10, 10, 20, 20, 30, 50, 100),
}
_IN_ALL = {"digits": (10, 140), "cifar10": (10, 5000), "imagenet100": (100, 500)}  # classes, images a class
# Half of a sequence; longer ones are not learned within the planned epochs.
_LENGTHS = {"parity": (2, 3), "modular_sum": (1, 2)}
_USUAL_LENGTHS = (4, 9)
_OPTIONS = {  # of each generated data set: those that it uses
    "parity": (), "brackets": (), "languages": ("symbols", "classes"),
    "moons": ("noise",), "circles": ("noise",), "quantiles": ("features", "classes"),
    "spirals": ("classes", "noise"), "blobs": ("features", "classes", "noise"),
}  # fmt: skip
_CARRIED = {"breast_cancer": 396, "wine": 124, "digits_table": 1256}  # rows, in fours


@dataclass(frozen=True)
class SweepTask:
    """Network, data and epochs of a sweep, before its search space is drawn.

    Attributes:
        family: Name of the networks' family.
        about: The family.
        dataset: See `RunConfig`.
        data_options: See `RunConfig`.
        images: Number of inputs to train on.
        test_images: Number of inputs to test on; None for all.
        epochs: Planned epochs.
        options: Of the network, see `sweep_network`.
        batch_sizes: Possible batch sizes, smallest first.
    """

    family: str
    about: Family
    dataset: str
    data_options: dict[str, Any]
    images: int
    test_images: int | None
    epochs: int
    options: dict[str, Any]
    batch_sizes: tuple[int, ...]

    @property
    def side(self) -> int:
        """Pixels; 0 where there are no images."""
        return int(self.data_options.get("pixels", 0))

    @property
    def steps(self) -> tuple[int, int]:
        """Fewest and most training steps in an epoch."""
        most, fewest = (math.ceil(self.images / size) for size in (self.batch_sizes[0], self.batch_sizes[-1]))
        return fewest, most


def draw_task(random: np.random.Generator, number: int) -> SweepTask:
    """The task of sweep `number`; `plan` gives its family and data set."""
    name, dataset, normalisation = plan()[number % len(plan())]
    family = FAMILIES[name]
    sizes = sizes_for(name, dataset)
    size: Size = choice(random, sizes)
    seconds = log_uniform(random, *_SECONDS)
    epochs = round(log_uniform(random, *_EPOCHS))
    cost = _TESTING * (size.per_input + 1e3 * size.per_step / _USUAL_BATCH)  # microseconds for each input
    affordable = 1e6 * seconds / cost
    if affordable / epochs < _FEWEST:
        epochs = max(_EPOCHS[0], int(affordable / _FEWEST))
    images = int(min(max(affordable / epochs, _FEWEST), _MOST))
    data_options, images, test_images = _draw_data(random, dataset, size, images)
    options = {
        "kind": name,
        "width": size.width,
        "depth": size.depth,
        "normalisation": normalisation,
        "activation": family.activations[0],
    }
    if name == "mlp" and random.random() < 0.3:
        options["residual"] = True
    return SweepTask(
        name, family, dataset, data_options, images, test_images, epochs, options,
        _batch_sizes(size, images, epochs),
    )  # fmt: skip


def _batch_sizes(size: Size, images: int, epochs: int) -> tuple[int, ...]:
    """Batch sizes with enough steps in an epoch that are cheap enough."""
    fewest, most = _STEPS
    fitting = [one for one in _BATCH_SIZES if fewest <= math.ceil(images / one) <= most]
    cheap = [one for one in fitting if _seconds(size, images, epochs, one) <= 1.5 * _SECONDS[1]]
    return tuple(cheap or fitting[-1:])


def _seconds(size: Size, images: int, epochs: int, batch_size: int) -> float:
    return 1e-6 * _TESTING * epochs * images * (size.per_input + 1e3 * size.per_step / batch_size)


def _draw_data(
    random: np.random.Generator, dataset: str, size: Size, images: int
) -> tuple[dict[str, Any], int, int | None]:
    """Options of the data, and how many inputs to train and to test on."""
    if dataset in IMAGES:
        return _draw_images(random, dataset, size, images)
    if dataset in CARRIED_TABLES:
        return {}, _in_fours(min(images, _CARRIED[dataset])), None
    options: dict[str, Any] = {
        "symbols": int(random.integers(3, 9)),
        "classes": int(random.integers(2, 7)),
        "features": int(random.integers(12, 49)),
        "noise": round(float(random.random()), 2),
    }
    options = {name: options[name] for name in _OPTIONS.get(dataset, ("symbols",))}
    if dataset in SEQUENCE_TASKS:
        shortest, longest = _LENGTHS.get(dataset, _USUAL_LENGTHS)
        options["length"] = 2 * int(random.integers(shortest, longest + 1))
    images = _in_fours(min(images, 4000))
    return options | {"seed": int(random.integers(2**31)), "samples": images}, images, None


def _draw_images(
    random: np.random.Generator, dataset: str, size: Size, images: int
) -> tuple[dict[str, Any], int, int]:
    in_all, of_each = _IN_ALL[dataset]
    if dataset == "digits":  # with all images every network is nearly perfect
        images = min(images, int(log_uniform(random, 250, 1400)))
    choices = [one for one in _CLASSES[dataset] if one * _FEWEST_PER_CLASS <= images]
    count = choice(random, choices) if choices else _CLASSES[dataset][0]
    images = _in_fours(min(images, count * of_each))
    options: dict[str, Any] = {"pixels": size.side, "seed": int(random.integers(2**31))}
    if count < in_all:
        options["classes"] = sorted(int(one) for one in random.permutation(in_all)[:count])
    return options, images, min(1000, max(300, images // 2))


def _in_fours(count: int) -> int:
    """A multiple of four: a last batch of a single input would have no variance."""
    return count // 4 * 4
