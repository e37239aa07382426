"""The paper's corpora (App. A.1): one network on one data set, over a grid of learning rates and dropouts."""

from dataclasses import KW_ONLY, dataclass, fields

import numpy as np

from lightning_nndyn.corpus.presets.base import ORDER_SEED, Preset, check_share
from lightning_nndyn.corpus.run_config import RunConfig, run_seed

LEARNING_RATES: tuple[float, ...] = tuple(
    float(f"{step / 2}e{decade}") for decade in range(-6, 0) for step in range(2, 10)
)
"""The paper's 48 learning rates: {1, 1.5, ..., 4.5} x {1e-6, ..., 1e-1}."""

DROPOUTS: tuple[float, ...] = tuple(tenths / 10 for tenths in range(10))
"""The paper's ten dropout probabilities: 0, 0.1, ..., 0.9."""

BAND = (5e-4, 0.2)
"""Learning rates at which the paper's networks learn: below it they hardly do, above it many diverge."""


@dataclass(frozen=True)
class GridPreset(Preset):
    """One network on one data set, over a grid of learning rates (outside) and dropouts (inside).

    `network` names a function of `corpus.models`; for the data sets see `load_data`. `band` bounds
    the learning rates at which networks learn. `init_scale` multiplies the initial weights: deep networks
    without normalisation need 6^(1/2) (He et al., 2015) to leave the first plateau within few epochs.

    Raises:
        CorpusError: A setting is out of its range.
    """

    network: str
    dataset: str
    _: KW_ONLY
    learning_rates: tuple[float, ...] = LEARNING_RATES
    dropouts: tuple[float, ...] = DROPOUTS
    momentum: float = 0.9
    batch_size: int = 128
    crop_padding: int = 4
    flip: bool = True
    band: tuple[float, float] = BAND
    init_scale: float = 1.0

    @property
    def datasets(self) -> tuple[str, ...]:
        """The one data set."""
        return (self.dataset,)

    def __len__(self) -> int:
        """Number of runs in the whole grid."""
        return len(self.learning_rates) * len(self.dropouts)

    def config(self, index: int, sampling: str = "grid") -> RunConfig:
        """The configuration of run `index` of the grid; `sampling` does not change the run."""
        rate, dropout = divmod(index, len(self.dropouts))
        shared = {f.name for f in fields(RunConfig)} & {f.name for f in fields(self)} - {"seed"}
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
        """All run indices in a fixed random order, each with how it was drawn; see `Preset.order`.

        Without `band_share` the first n of them represent the whole grid.
        """
        check_share(band_share)
        whole = [int(index) for index in np.random.default_rng(ORDER_SEED).permutation(len(self))]
        band = [index for index in whole if self._in_band(index)]
        drawn: dict[int, str] = {}
        while len(drawn) < len(whole):
            behind = sum(sampling == "band" for sampling in drawn.values()) < band_share * (len(drawn) + 1)
            left = [index for index in band if index not in drawn] if behind else []
            index = left[0] if left else next(index for index in whole if index not in drawn)
            drawn[index] = "band" if left else "grid"
        return list(drawn.items())

    def _in_band(self, index: int) -> bool:
        low, high = self.band
        return low <= self.learning_rates[index // len(self.dropouts)] <= high

    def departures(self) -> list[str]:
        """The corpus's departures from the paper's protocol, in words."""
        found = self.scaling_departures()
        paper = {one.name: one.default for one in fields(GridPreset)}
        for name in ("learning_rates", "dropouts"):
            if getattr(self, name) != paper[name]:
                found.append(f"{len(getattr(self, name))} {name.replace('_', ' ')} of its own choice")
        for name in ("momentum", "batch_size", "crop_padding"):
            if getattr(self, name) != paper[name]:
                found.append(f"{name.replace('_', ' ')} {getattr(self, name)} instead of {paper[name]}")
        if self.init_scale != 1:
            found.append(f"initial weights {self.init_scale:.3g} times torch's")
        if not self.flip and self.dataset != "digits":
            found.append("no horizontal flip")
        return found
