"""The zoo: random small networks, each trained in a way of its own."""

from dataclasses import KW_ONLY, dataclass

import numpy as np

from lightning_nndyn.corpus.presets.base import Preset, check_share
from lightning_nndyn.corpus.presets.zoo import DATASETS, draw_run
from lightning_nndyn.corpus.run_config import RunConfig, run_seed


@dataclass(frozen=True)
class ZooPreset(Preset):
    """Random networks on random data sets, with random optimisers, rates, schedules and shares of the data.

    Run `index` is drawn from a random generator of its own, so a corpus can be made longer at any time.

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
        """Number of runs; only a bound, there are as many as one likes."""
        return self.planned

    def config(self, index: int, sampling: str = "grid") -> RunConfig:
        """The configuration of run `index`, with learning rates of the "band" or of the whole "grid"."""
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
        """In which points the corpus departs from the paper's protocol, in words."""
        drawn = "network, optimizer, learning rate, momentum, weight decay, batch size, dropout, schedule, "
        return [*self.scaling_departures(), f"{drawn}augmentation and share of the data drawn at random"]
