"""The base class of presets: settings, an order of runs, departures from the paper's protocol (App. A.1)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from lightning_nndyn.corpus.run_config import RunConfig, check_precision, check_scale
from lightning_nndyn.errors import CorpusError

ORDER_SEED = 20_240_501  # a constant, so that partial corpora of one preset have the same first runs
PresetT = TypeVar("PresetT", bound="Preset")


@dataclass(frozen=True)
class Preset(ABC):
    """A corpus to train. The defaults are the paper's protocol (App. A.1).

    `images` and `test_images` bound the two splits (drawn class by class), `size` resizes the images. Runs
    below `low_threshold` count as low (Table 2 of the paper); a mapping has one for each data set.

    Raises:
        CorpusError: A setting is out of its range.
    """

    name: str
    _: KW_ONLY
    epochs: int = 50
    patience: int = 10
    images: int | None = None
    test_images: int | None = None
    size: int | None = None
    precision: str = "float32"
    seed: int = 0
    low_threshold: float | Mapping[str, float] = 0.4

    def __post_init__(self) -> None:
        """Refuse settings that would fail later, hours into a corpus."""
        for name in ("epochs", "batch_size", "patience", "images", "test_images", "size"):
            value = getattr(self, name, None)
            if value is not None and value < 1:
                raise CorpusError(f"{name}={value} in preset {self.name!r}: pass at least 1")
        low = self.low_threshold
        if not all(0 < level < 1 for level in (low.values() if isinstance(low, Mapping) else [low])):
            raise CorpusError(f"low_threshold={low} in preset {self.name!r}: pass accuracies between 0 and 1")
        check_precision(self.precision)
        check_scale(getattr(self, "init_scale", 1.0))

    @property
    @abstractmethod
    def datasets(self) -> tuple[str, ...]:
        """The data sets that its runs are trained on."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of runs in the whole corpus."""

    @abstractmethod
    def config(self, index: int, sampling: str = "grid") -> RunConfig:
        """The configuration of run `index`, its learning rate from the "band" or from the whole "grid"."""

    @abstractmethod
    def order(self, band_share: float = 0.0) -> list[tuple[int, str]]:
        """All run indices in the order in which they are trained, each with its `sampling`.

        A share `band_share` of the first n runs has learning rates at which networks learn, for any n, as
        long as such runs are left.

        Raises:
            CorpusError: `band_share` is not within [0, 1].
        """

    @abstractmethod
    def departures(self) -> list[str]:
        """The corpus's departures from the paper's protocol, in words."""

    def scaled(self: PresetT, **changes: Any) -> PresetT:
        """The preset with the given settings changed; None leaves a setting as it is.

        If `images` is given and `test_images` is not, a quarter as many test images are used, at least 2,000:
        testing shall not take longer than training.

        Raises:
            CorpusError: A setting is out of its range, or the preset has no such setting.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        unknown = sorted(set(given) - {one.name for one in fields(self)})
        if unknown:
            raise CorpusError(f"preset {self.name!r} has no setting {unknown[0]!r}")
        if "images" in given and self.datasets != ("digits",):
            given.setdefault("test_images", max(2000, given["images"] // 4))
        return replace(self, **given)

    def settings(self) -> dict[str, Any]:
        """All settings as JSON-able values, and the number of runs."""
        plain = {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }
        return plain | {"datasets": list(self.datasets), "planned_runs": len(self)}

    def scaling_departures(self) -> list[str]:
        """Departures that every preset can have."""
        found = [f"trains on to epoch {self.epochs}; the epoch where patience would have stopped is recorded"]
        paper = {one.name: one.default for one in fields(Preset)}
        for name in ("epochs", "patience", "precision"):
            if getattr(self, name) != paper[name]:
                found.append(f"{name} {getattr(self, name)} instead of {paper[name]}")
        if self.size is not None:
            found.append(f"images resized to {self.size}x{self.size}")
        if self.images is not None:
            found.append(f"at most {self.images} training and {self.test_images or 'all'} test images")
        return found + [text for name in self.datasets for text in _DATASET_DEPARTURES.get(name, [])]


def check_share(band_share: float) -> None:
    """Raise CorpusError unless it is within [0, 1]."""
    if not 0 <= band_share <= 1:
        raise CorpusError(f"band_share={band_share} is no share: pass one within [0, 1], such as 0.7")


def log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    """A log-uniform number, rounded to three significant digits."""
    return float(f"{math.exp(random.uniform(math.log(low), math.log(high))):.3g}")


def choice(random: np.random.Generator, choices: Sequence[Any]) -> Any:
    """One of the choices."""
    return choices[int(random.integers(len(choices)))]


_DATASET_DEPARTURES = {
    "digits": [
        "scikit-learn's digits (8x8, grey) instead of the paper's images",
        "a mirrored digit is another digit, so images are not flipped",
    ],
    "imagenet100": ["a hundred ImageNet classes of the user's own choice"],
    "imagefolder": ["the user's own images instead of the paper's"],
}
