"""What a corpus trains: the paper's networks and data sets with its protocol (App. A.1), as settings."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from lightning_nndyn.errors import CorpusError

LEARNING_RATES: tuple[float, ...] = tuple(
    float(f"{step / 2}e{decade}") for decade in range(-6, 0) for step in range(2, 10)
)
"""The paper's 48 learning rates: {1, 1.5, ..., 4.5} x {1e-6, ..., 1e-1}."""

DROPOUTS: tuple[float, ...] = tuple(tenths / 10 for tenths in range(10))
"""The paper's ten dropout probabilities: 0, 0.1, ..., 0.9."""

BAND = (5e-4, 0.2)
"""Learning rates at which the paper's networks learn: below they hardly move, above they often diverge."""

PRECISIONS = ("float32", "bf16")
_ORDER_SEED = 20_240_501  # of the order in which runs are trained; a constant, so that partial corpora agree


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides one training run; with the same data, it gives the same record again.

    `index` is the run's place in the preset's grid (learning rates outside, dropouts inside), and names its
    record.
    `sampling` says how the configuration was chosen: "grid" from the paper's whole grid, "band" from the
    learning rates at which training moves.
    """

    preset: str
    network: str
    dataset: str
    index: int
    seed: int
    learning_rate: float
    dropout: float
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 128
    epochs: int = 50
    patience: int = 10
    crop_padding: int = 4
    flip: bool = True
    images: int | None = None
    test_images: int | None = None
    size: int | None = None
    precision: str = "float32"
    sampling: str = "grid"


@dataclass(frozen=True)
class Preset:
    """A corpus to train: one network on one data set, over a grid of learning rates and dropouts.

    The defaults are the paper's protocol. `network` names a function of `lightning_nndyn.models`, `dataset`
    is "digits", "cifar10" or "imagefolder". `images` and `test_images` bound the two splits (drawn class by
    class), `size` resizes the images. Runs below `low_threshold` count as low (Table 2 of the paper).

    Raises:
        CorpusError: A setting is out of its range.
    """

    name: str
    network: str
    dataset: str
    learning_rates: tuple[float, ...] = LEARNING_RATES
    dropouts: tuple[float, ...] = DROPOUTS
    momentum: float = 0.9
    batch_size: int = 128
    epochs: int = 50
    patience: int = 10
    crop_padding: int = 4
    flip: bool = True
    images: int | None = None
    test_images: int | None = None
    size: int | None = None
    precision: str = "float32"
    seed: int = 0
    low_threshold: float = 0.4

    def __post_init__(self) -> None:
        """Refuse what could only fail later, hours into a corpus."""
        for name in ("epochs", "batch_size", "patience", "images", "test_images", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise CorpusError(f"{name}={value} in preset {self.name!r}: pass at least 1")
        if self.precision not in PRECISIONS:
            raise CorpusError(f"precision={self.precision!r} is unknown: choose from {', '.join(PRECISIONS)}")

    def __len__(self) -> int:
        """Number of runs in the whole grid."""
        return len(self.learning_rates) * len(self.dropouts)

    def scaled(self, **changes: Any) -> "Preset":
        """The preset with the given settings changed; None leaves a setting as it is.

        Fewer training images bring fewer test images with them, a quarter but at least 2,000, so that testing
        does not outweigh training; `test_images` overrides this.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        if "images" in given and self.dataset != "digits":
            given.setdefault("test_images", max(2000, given["images"] // 4))
        return replace(self, **given)

    def config(self, index: int, sampling: str = "grid") -> RunConfig:
        """The configuration of run `index` of the grid; `sampling` does not change the run."""
        rate, dropout = divmod(index, len(self.dropouts))
        shared = {f.name for f in fields(RunConfig)} & {f.name for f in fields(Preset)} - {"seed"}
        return RunConfig(
            preset=self.name,
            index=index,
            seed=run_seed(self.seed, index),
            learning_rate=self.learning_rates[rate],
            dropout=self.dropouts[dropout],
            sampling=sampling,
            **{name: getattr(self, name) for name in shared},
        )

    def order(self, band_share: float = 0.0) -> list[tuple[int, str]]:
        """All run indices in a fixed random order, each with how it was drawn.

        Without `band_share` the first n of them represent the whole grid. With it, that share of them (until
        there is nothing left there) is drawn from the band of learning rates at which training moves.

        Raises:
            CorpusError: `band_share` is not within [0, 1].
        """
        if not 0 <= band_share <= 1:
            raise CorpusError(f"band_share={band_share} is no share: pass one within [0, 1], such as 0.7")
        whole = [int(index) for index in np.random.default_rng(_ORDER_SEED).permutation(len(self))]
        band = [index for index in whole if self._in_band(index)]
        drawn: dict[int, str] = {}
        while len(drawn) < len(whole):
            behind = sum(sampling == "band" for sampling in drawn.values()) < band_share * (len(drawn) + 1)
            left = [index for index in band if index not in drawn] if behind else []
            index = left[0] if left else next(index for index in whole if index not in drawn)
            drawn[index] = "band" if left else "grid"
        return list(drawn.items())

    def _in_band(self, index: int) -> bool:
        low, high = BAND
        return low <= self.learning_rates[index // len(self.dropouts)] <= high

    def settings(self) -> dict[str, Any]:
        """All settings as JSON-able values."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    def departures(self) -> list[str]:
        """In which points the corpus departs from the paper's protocol, in words."""
        told = [f"trains on to epoch {self.epochs}; the epoch where patience would have stopped is recorded"]
        paper = Preset("", "", "")
        for name in ("learning_rates", "dropouts"):
            if getattr(self, name) != getattr(paper, name):
                told.append(f"{len(getattr(self, name))} {name.replace('_', ' ')} of its own choice")
        for name in ("momentum", "batch_size", "epochs", "patience", "crop_padding", "precision"):
            ours, theirs = getattr(self, name), getattr(paper, name)
            if ours != theirs:
                told.append(f"{name.replace('_', ' ')} {ours} instead of {theirs}")
        if not self.flip and self.dataset != "digits":
            told.append("no horizontal flip")
        if self.size is not None:
            told.append(f"images resized to {self.size}x{self.size}")
        if self.images is not None:
            told.append(f"at most {self.images} training and {self.test_images or 'all'} test images")
        return told + _DATASET_DEPARTURES.get(self.dataset, [])


_DATASET_DEPARTURES = {
    "digits": [
        "scikit-learn's digits (8x8, grey) instead of the paper's images",
        "a mirrored digit is another digit, so images are not flipped",
    ],
    "imagefolder": ["the user's own images instead of the paper's"],
}


def run_seed(corpus_seed: int, index: int) -> int:
    """The seed of one run: independent streams for neighbouring runs and for neighbouring corpus seeds."""
    return int(np.random.SeedSequence([corpus_seed, index]).generate_state(1)[0])


def _paper(network: str, dataset: str, folder: str | None = None, **changes: Any) -> Preset:
    return Preset(f"{network}-{dataset}", network, folder or dataset, **changes)


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        # 50 %, half-way between guessing and the best run, where Table 2 has its thresholds for CIFAR-10 as
        # well.
        _paper("lenet5", "digits", crop_padding=1, flip=False, low_threshold=0.5),
        _paper("lenet5", "imagefolder"),
        _paper("lenet5", "cifar10"),
        _paper("alexnet", "cifar10"),
        _paper("vgg7", "cifar10"),
        _paper("resnet32", "cifar10"),
        _paper("resnet44", "cifar10"),
        _paper("lenet5", "imagenet100", "imagefolder", low_threshold=0.09),
        _paper("alexnet", "imagenet100", "imagefolder", low_threshold=0.10),
        _paper("resnet50", "imagenet100", "imagefolder", low_threshold=0.25),
    )
}


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        CorpusError: There is none.
    """
    if name not in PRESETS:
        raise CorpusError(f"no preset {name!r}: choose from {', '.join(PRESETS)}")
    return PRESETS[name]
