"""The families of networks in the sweeps: how many sweeps each has, on which data, in which sizes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lightning_nndyn.corpus.training.sequences import SEQUENCE_TASKS
from lightning_nndyn.corpus.training.tables import CARRIED_TABLES, MADE_TABLES

IMAGES = ("digits", "cifar10", "imagenet100")


class Size(NamedTuple):
    """A network's size, and what a training step with it costs.

    Attributes:
        side: Pixels of an image's side; for sequences, the length at which the costs were measured.
        width: See `Shape`.
        depth: See `Shape`.
        per_step: Milliseconds of a training step, independent of the batch size.
        per_input: Microseconds of a training step for each input of its batch.
    """

    side: int
    width: int
    depth: int
    per_step: float
    per_input: float


@dataclass(frozen=True)
class Family:
    """The choices of sweeps of one family.

    Attributes:
        sweeps: How many of 120 sweeps are of this family.
        datasets: Used in turn; a name that is listed twice is used twice as often.
        normalisations: Choices; a sweep fixes one of them or searches several.
        activations: Likewise; the first is the usual one.
        adaptive: Whether the family is usually trained by AdamW or another adaptive optimizer.
        rate: A good learning rate of Adam; those of other optimizers are multiples of it.
    """

    sweeps: int
    datasets: tuple[str, ...]
    normalisations: tuple[str, ...]
    activations: tuple[str, ...] = ("relu", "relu", "gelu", "silu", "leaky_relu", "elu", "tanh")
    adaptive: bool = False
    rate: float = 2e-3


_PICTURES = ("cifar10", "imagenet100", "digits", "imagenet100", "cifar10")
_TABLES = (
    "blobs", "digits", "moons", "breast_cancer", "quantiles", "cifar10", "spirals", "digits_table", "blobs",
    "wine", "imagenet100", "circles",
)  # fmt: skip
_READ_IN_ORDER = (
    "languages", "digits", "first_token", "brackets", "cifar10", "majority", "parity", "lookup", "repetition",
    "modular_sum",
)  # fmt: skip
_TOKENS = (
    "languages", "lookup", "majority", "repetition", "brackets", "modular_sum", "first_token", "languages",
    "parity", "majority",
)  # fmt: skip

FAMILIES: dict[str, Family] = {
    "plain_cnn": Family(12, _PICTURES, ("batch", "none", "group", "none", "layer")),
    "vgg": Family(8, _PICTURES[1:] + _PICTURES[:1], ("batch", "none", "group")),
    "resnet": Family(18, _PICTURES, ("batch", "group", "none")),
    "preactivation_resnet": Family(7, _PICTURES[3:] + _PICTURES[:3], ("batch", "group", "layer")),
    "inverted_bottleneck": Family(7, _PICTURES, ("batch", "batch", "group"), ("relu", "silu", "gelu")),
    "convnext": Family(
        7,
        _PICTURES[1:] + _PICTURES[:1],
        ("layer", "layer", "batch"),
        ("gelu", "silu", "relu"),
        True,
    ),
    "unet": Family(6, _PICTURES[4:] + _PICTURES[:4], ("batch", "group", "none")),
    "mlp": Family(16, _TABLES, ("none", "batch", "layer"), rate=3e-3),
    "mixer": Family(6, _PICTURES, ("layer",), ("gelu", "relu", "silu"), True, 1.5e-3),
    "vit": Family(10, _PICTURES, ("layer",), ("gelu", "relu", "silu"), True, 1e-3),
    "lstm": Family(7, _READ_IN_ORDER, ("none",), ("tanh",), True, 5e-3),
    "gru": Family(6, _READ_IN_ORDER[5:] + _READ_IN_ORDER[:5], ("none",), ("tanh",), True, 5e-3),
    "transformer": Family(10, _TOKENS, ("layer", "none"), ("gelu", "relu"), True, 1.5e-3),
}
"""All families by name, the `kind` of `sweep_network`."""

# Costs were measured on one core of a server with AVX2; they only decide how much data a run has.
_IMAGE_SIZES: dict[str, tuple[Size, ...]] = {
    "plain_cnn": (
        Size(8, 16, 3, 3.5, 40), Size(12, 16, 4, 4, 144), Size(16, 12, 4, 4, 190), Size(16, 16, 5, 6, 232),
        Size(24, 8, 4, 4, 158), Size(32, 8, 4, 5, 165),
    ),
    "vgg": (
        Size(8, 16, 1, 3, 30), Size(12, 12, 1, 3, 60), Size(16, 12, 1, 4, 106), Size(16, 12, 2, 6.5, 275),
        Size(24, 8, 1, 4, 130), Size(32, 8, 1, 4, 250),
    ),
    "resnet": (
        Size(8, 12, 1, 6.5, 105), Size(8, 12, 2, 9.5, 165), Size(12, 12, 1, 6.5, 200), Size(16, 8, 1, 9, 205),
        Size(16, 12, 1, 9, 430), Size(24, 8, 1, 8, 540),
    ),
    "preactivation_resnet": (
        Size(8, 12, 1, 6.5, 100), Size(8, 12, 2, 9.5, 168), Size(12, 12, 1, 6.5, 203), Size(16, 8, 1, 9, 207),
        Size(16, 12, 1, 9, 440),
    ),
    "inverted_bottleneck": (
        Size(8, 16, 1, 7, 97), Size(8, 12, 2, 12, 133), Size(12, 12, 1, 5, 363), Size(16, 8, 1, 5, 430),
    ),
    "convnext": (
        Size(8, 16, 1, 4.6, 67), Size(12, 16, 2, 7, 141), Size(16, 16, 1, 5.5, 96), Size(16, 24, 2, 6, 400),
        Size(24, 12, 1, 7, 152), Size(32, 12, 1, 5, 261),
    ),
    "unet": (
        Size(8, 8, 1, 8, 60), Size(12, 8, 1, 8, 157), Size(16, 8, 1, 7, 278), Size(12, 12, 1, 8, 210),
    ),
    "mixer": (
        Size(8, 32, 2, 6, 98), Size(12, 48, 3, 8, 270), Size(16, 48, 4, 12, 260), Size(24, 32, 2, 5, 211),
        Size(32, 32, 2, 8, 398),
    ),
    "vit": (
        Size(8, 32, 2, 6, 130), Size(12, 48, 3, 8, 243), Size(16, 48, 4, 12, 280), Size(16, 64, 2, 6, 239),
        Size(24, 32, 2, 6, 333), Size(32, 32, 2, 10, 590),
    ),
    "mlp": (
        Size(8, 64, 2, 1.7, 5), Size(16, 64, 3, 2.6, 8), Size(16, 128, 3, 2.6, 21), Size(32, 64, 2, 2.3, 33),
    ),
    "lstm": (Size(8, 48, 1, 2.2, 35), Size(16, 48, 1, 3, 42), Size(16, 32, 2, 4, 55), Size(32, 32, 1, 4, 94)),
    "gru": (Size(8, 48, 1, 5, 25), Size(16, 48, 1, 8, 45), Size(16, 32, 2, 14, 52), Size(32, 32, 1, 13, 74)),
}  # fmt: skip

_TABLE_SIZES = (
    Size(0, 32, 2, 2, 4),
    Size(0, 64, 3, 2.5, 7),
    Size(0, 128, 2, 2.2, 10),
    Size(0, 64, 5, 4.4, 9),
)

_TOKEN_SIZES: dict[str, tuple[Size, ...]] = {
    "lstm": (Size(16, 32, 1, 2.7, 37), Size(16, 48, 1, 3, 59), Size(16, 32, 2, 4, 73)),
    "gru": (Size(16, 32, 1, 7, 34), Size(16, 48, 1, 8, 45), Size(16, 32, 2, 13, 58)),
    "transformer": (
        Size(16, 32, 1, 4.3, 105), Size(16, 32, 2, 7, 210), Size(16, 48, 2, 8, 261), Size(16, 32, 3, 10, 313),
    ),
}  # fmt: skip


def sizes_for(kind: str, dataset: str) -> tuple[Size, ...]:
    """The sizes in which networks of a kind are trained on a data set."""
    if dataset in SEQUENCE_TASKS:
        return _TOKEN_SIZES[kind]
    if dataset in CARRIED_TABLES or dataset in MADE_TABLES:
        return _TABLE_SIZES
    small = dataset == "digits"
    return tuple(size for size in _IMAGE_SIZES[kind] if (size.side == 8) == small or not small)


def plan() -> list[tuple[str, str, str]]:
    """Family, data set and normalisation of each sweep, families and data sets spread over the whole list."""
    turns = [
        ((turn + 0.5) / family.sweeps, name, turn)
        for name, family in FAMILIES.items()
        for turn in range(family.sweeps)
    ]
    return list(_turns(sorted(turns)))


def _turns(turns: list[tuple[float, str, int]]) -> Iterator[tuple[str, str, str]]:
    for _, name, turn in turns:
        family = FAMILIES[name]
        dataset = family.datasets[turn % len(family.datasets)]
        yield name, dataset, family.normalisations[turn % len(family.normalisations)]
