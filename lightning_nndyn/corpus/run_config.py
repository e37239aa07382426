"""The settings of one training run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from lightning_nndyn.errors import CorpusError

PRECISIONS = ("float32", "bf16")
OPTIMIZERS = ("sgd", "nesterov", "adam", "adamw", "rmsprop", "lion")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides one training run; with the same data, it gives the same record again.

    Attributes:
        preset: The preset the run belongs to.
        network: A function of `corpus.models`, "zoo_network" or "sweep_network".
        dataset: Name of the data set, see `load_source`.
        index: Number of the run in its preset, which names its record.
        seed: Of weights, batches, crops and dropout.
        learning_rate: At the start, before the schedule's factor.
        dropout: Probability of the network's dropout layers.
        optimizer: One of `OPTIMIZERS`.
        momentum: Of SGD and RMSprop; the first beta of Adam, AdamW and Lion.
        weight_decay: L2 penalty; decoupled with AdamW and Lion.
        schedule: How the learning rate changes from step to step, see `learning_rate_factor`.
        batch_size: Images in a batch; the last one of an epoch may be smaller.
        epochs: Epochs to train.
        patience: Epochs without a better test accuracy after which the paper stops; recorded, not obeyed.
        crop_padding: Black pixels around an image before a crop of its own size is cut at random.
        flip: Whether every other image is mirrored.
        images: Train on at most that many, the classes in equal parts; None for all.
        test_images: Test on at most that many.
        size: Images are resized to size x size; None leaves them.
        precision: "float32", or "bf16" for autocast to bfloat16.
        sampling: "band" if the learning rate was drawn from those at which networks learn, "grid" if from
            all of them.
        init_scale: Factor on the weights of convolutions and linear layers at the start; 6^(1/2) on torch's
            gives the variance of He et al. (2015).
        network_options: Further arguments of the network's function.
        data_options: Which part of the data set is used, or how it is generated, see `data_of_run`.
        warmup: Share of the training over which the learning rate rises, before its schedule begins.
        label_smoothing: Of the loss.
        gradient_clip: Largest norm of all gradients together; None for no limit.
        raw_epochs: Last epoch up to which the record has numbers per layer; None for all epochs.
        family: Family of the network, so that a whole one can be held out. Runs with a family are read both
            as a chain and as a data flow.
        sweep: Number of the sweep that the run belongs to, if any.
        searched: The settings that vary within the sweep, with this run's values.
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
    schedule: str = "constant"
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
    init_scale: float = 1.0
    network_options: Mapping[str, Any] = field(default_factory=dict)
    data_options: Mapping[str, Any] = field(default_factory=dict)
    warmup: float = 0.0
    label_smoothing: float = 0.0
    gradient_clip: float | None = None
    raw_epochs: float | None = None
    family: str = ""
    sweep: int | None = None
    searched: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse settings that no run can be trained with."""
        if self.optimizer not in OPTIMIZERS:
            raise CorpusError(f"optimizer={self.optimizer!r} is unknown: choose from {', '.join(OPTIMIZERS)}")
        check_precision(self.precision)
        check_scale(self.init_scale)

    @classmethod
    def from_record(cls, config: Mapping[str, Any]) -> "RunConfig":
        """The configuration in a record's `config`; unknown keys are ignored."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in config.items() if name in known})


def check_scale(init_scale: float) -> None:
    """Raise CorpusError unless the factor is positive and finite."""
    if not 0 < init_scale < math.inf:
        raise CorpusError(f"init_scale={init_scale} is no factor of weights: pass 1, or 2.449 for He's")


def check_precision(precision: str) -> None:
    """Raise CorpusError unless it is one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise CorpusError(f"precision={precision!r} is unknown: choose from {', '.join(PRECISIONS)}")


def run_seed(corpus_seed: int, index: int) -> int:
    """The seed of one run: independent streams for neighbouring runs and for neighbouring corpus seeds."""
    return int(np.random.SeedSequence([corpus_seed, index]).generate_state(1)[0])
