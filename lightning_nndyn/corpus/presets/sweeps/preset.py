"""The preset `sweeps`: many small hyperparameter sweeps, each of one network on one data set."""

from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from lightning_nndyn.corpus.presets.base import Preset, check_share
from lightning_nndyn.corpus.presets.sweeps.families import FAMILIES
from lightning_nndyn.corpus.presets.sweeps.spaces import Space, draw_space, good_rate
from lightning_nndyn.corpus.presets.sweeps.tasks import SweepTask, draw_task
from lightning_nndyn.corpus.run_config import RunConfig, run_seed

_RAW_EPOCHS = 4  # with numbers per layer in the record
_NETWORK_SETTINGS = ("width", "depth", "normalisation", "activation", "initialisation")


class Sweep(NamedTuple):
    """One sweep: what it trains, and what it searches."""

    task: SweepTask
    space: Space
    one_seed: bool


@dataclass(frozen=True)
class SweepPreset(Preset):
    """Typical hyperparameter sweeps, drawn at random; one sweep is trained after the other.

    A run is low if it ends below `low_share` of the way from guessing to the best run of its sweep.
    `low_threshold` is not used.

    Raises:
        CorpusError: A setting is out of its range.
    """

    _: KW_ONLY
    sweeps: int = 120
    low_share: float = 0.5

    @property
    def datasets(self) -> tuple[str, ...]:
        """All data sets; only two of them need a folder."""
        return tuple(sorted({name for family in FAMILIES.values() for name in family.datasets}))

    def __len__(self) -> int:
        """Number of runs in all sweeps."""
        return _starts(self.seed, self.sweeps)[-1]

    def sweep(self, number: int) -> Sweep:
        """What a sweep trains and searches."""
        return _drawn(self.seed, number)

    def locate(self, index: int) -> tuple[int, int]:
        """The sweep of a run, and the number of the run within it."""
        starts = _starts(self.seed, self.sweeps)
        number = int(np.searchsorted(starts, index, side="right")) - 1
        return number, index - starts[number]

    def config(self, index: int, sampling: str = "grid") -> RunConfig:
        """The configuration of a run; `sampling` does not change it."""
        number, run = self.locate(index)
        task, space, one_seed = self.sweep(number)
        searched = space.values(np.random.default_rng([self.seed, number, run]), run)
        settings = space.fixed | searched
        if space.relative:
            rate = good_rate(task, settings["optimizer"]) * settings["learning_rate"]
            settings["learning_rate"] = float(f"{rate:.3g}")
        chosen = {name: settings[name] for name in searched}
        options = task.options | {name: settings.pop(name) for name in _NETWORK_SETTINGS if name in settings}
        augmentation = settings.pop("augmentation")
        return RunConfig(
            preset=self.name,
            network="sweep_network",
            dataset=task.dataset,
            index=index,
            seed=run_seed(self.seed, len(self) + number if one_seed else index),
            epochs=min(task.epochs, self.epochs),
            patience=self.patience,
            images=min(task.images, self.images or task.images),
            test_images=task.test_images,
            precision=self.precision,
            crop_padding=max(1, task.side // 8) if "crop" in augmentation else 0,
            flip="flip" in augmentation,
            network_options=options,
            data_options=task.data_options,
            raw_epochs=_RAW_EPOCHS,
            family=task.family,
            sweep=number,
            searched=chosen,
            **_without_momentum(settings, "momentum" in searched),
        )

    def order(self, band_share: float = 0.0) -> list[tuple[int, str]]:
        """Sweep by sweep, families and data sets taking turns; see `Preset.order`."""
        check_share(band_share)
        return [(index, "grid") for index in range(len(self))]

    def departures(self) -> list[str]:
        """The corpus's departures from the paper's protocol, in words."""
        return [
            f"up to {self.epochs} epochs, as each sweep plans; where patience would have stopped is recorded",
            "small networks of many families on images, tables and sequences, in sweeps drawn at random",
            f"low is less than {self.low_share:.0%} of the way from guessing to the best run of the sweep",
        ]


@lru_cache(maxsize=1024)
def _drawn(seed: int, number: int) -> Sweep:
    random = np.random.default_rng([seed, number])
    task = draw_task(random, number)
    return Sweep(task, draw_space(random, task), bool(random.random() < 0.4))


@lru_cache(maxsize=8)
def _starts(seed: int, sweeps: int) -> list[int]:
    """The first run of each sweep, and the number of runs at the end."""
    starts = [0]
    for number in range(sweeps):
        starts.append(starts[-1] + _drawn(seed, number).space.runs)
    return starts


def _without_momentum(settings: dict[str, Any], searched: bool) -> dict[str, Any]:
    """RMSprop is used without momentum, unless it is searched."""
    if settings["optimizer"] == "rmsprop" and not searched:
        return settings | {"momentum": 0.0}
    return settings
