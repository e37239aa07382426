"""The training batches of a run: shuffled, cropped and flipped by random numbers of its own."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.training.data import ImageData


class EpochPlan(NamedTuple):
    """What chance decides of an epoch: each tensor is [images], in the order in which they are trained on.

    `order` holds the images, `rows` and `columns` the upper left corners of their crops within the padded
    image, `flipped` which of them are mirrored.
    """

    order: Tensor
    rows: Tensor
    columns: Tensor
    flipped: Tensor

    def split(self, batch_size: int) -> Iterator["EpochPlan"]:
        """The same per batch; the last one may be smaller."""
        return map(EpochPlan._make, zip(*(part.split(batch_size) for part in self), strict=True))


class EpochPlanner:
    """Draws one plan after the other from a random generator of the run's own, always on the CPU."""

    def __init__(self, config: RunConfig, images: int) -> None:
        """Plan for so many images; nothing is drawn yet."""
        self.config, self.images = config, images
        self.random = torch.Generator().manual_seed(config.seed + 1)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self.images // self.config.batch_size)

    def draw(self) -> EpochPlan:
        """The next epoch's plan."""
        order = torch.randperm(self.images, generator=self.random)
        span = 2 * self.config.crop_padding + 1
        rows, columns = torch.randint(span, (2, self.images), generator=self.random)
        flipped = torch.zeros(self.images, dtype=torch.bool)
        if self.config.flip:
            flipped = torch.rand(self.images, generator=self.random) < 0.5
        return EpochPlan(order, rows, columns, flipped)


class BatchLoader:
    """The batches of one epoch after the other, on the CPU."""

    def __init__(self, config: RunConfig, data: ImageData) -> None:
        """Pad all images once, with black, and lay the channels last, so that a crop is a copy of rows."""
        self.config, self.data = config, data
        self.channels, self.height, self.width = data.shape
        self.planner = EpochPlanner(config, len(data.train_labels))
        padded = F.pad(data.train_images, (config.crop_padding,) * 4)
        self.windows = self._windows(padded.permute(0, 2, 3, 1).contiguous().numpy())

    def __len__(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return len(self.planner)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of images, float [batch, channels, height, width] in -1..1, and labels."""
        for batch in self.planner.draw().split(self.config.batch_size):
            yield self.data.normalise(self._crop(batch)), self.data.train_labels[batch.order]

    def _windows(self, pixels: np.ndarray) -> np.ndarray:
        """A view [image, row, column, height, width * channels] of all crops of all images."""
        image, row, column, _ = pixels.strides  # the last means nothing where there is one channel
        span = 2 * self.config.crop_padding + 1
        shape = (len(pixels), span, span, self.height, self.width * self.channels)
        return np.lib.stride_tricks.as_strided(pixels, shape, (image, row, column, row, pixels.itemsize))

    def _crop(self, batch: EpochPlan) -> Tensor:
        """The uint8 images of a batch [batch, channels, height, width], cut out, some mirrored."""
        order, rows, columns, flipped = (part.numpy() for part in batch)
        images = self.windows[order, rows, columns].reshape(-1, self.height, self.width, self.channels)
        images[flipped] = images[flipped, :, ::-1]
        return torch.from_numpy(images).permute(0, 3, 1, 2)
