"""The training batches of a run: images shuffled, cropped and flipped by the run's own random numbers."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.training.data import ImageData


class EpochPlan(NamedTuple):
    """The random choices of an epoch; each tensor is [images], in the order of training.

    `order` holds the images' indices, `rows` and `columns` the upper left corners of their crops within the
    padded image, `flipped` whether they are mirrored.
    """

    order: Tensor
    rows: Tensor
    columns: Tensor
    flipped: Tensor

    def split(self, batch_size: int) -> Iterator["EpochPlan"]:
        """The plans of the batches; the last one may be smaller."""
        return map(EpochPlan._make, zip(*(part.split(batch_size) for part in self), strict=True))


class EpochPlanner:
    """Draws the plans of all epochs from the run's own random generator, always on the CPU."""

    def __init__(self, config: RunConfig, images: int) -> None:
        """Seed the generator; nothing is drawn yet."""
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
    """The batches of one epoch after the other, on the device that the images are on.

    The images stay uint8 there; each batch is cut out, mirrored and normalised on the device.
    """

    def __init__(self, config: RunConfig, data: ImageData) -> None:
        """Pad all images once, with black, and lay the channels last, so that a crop is a copy of rows."""
        self.config, self.data = config, data
        self.channels, self.height, self.width = data.shape
        self.planner = EpochPlanner(config, len(data.train_labels))
        padded = F.pad(data.train_images, (config.crop_padding,) * 4)
        self.windows = self._windows(padded.permute(0, 2, 3, 1).contiguous())

    def __len__(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return len(self.planner)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of images, float [batch, channels, height, width] in -1..1, and labels."""
        for batch in self.planner.draw().split(self.config.batch_size):
            order, rows, columns = (part.to(self.windows.device) for part in batch[:3])
            # Indices, not a mask: a mask on a CUDA device makes each step wait for the device.
            mirrored = batch.flipped.nonzero().squeeze(1).to(self.windows.device)
            pixels = self._crop(order, rows, columns, mirrored)
            yield self.data.normalise(pixels), self.data.train_labels[order]

    def _windows(self, pixels: Tensor) -> Tensor:
        """A view [image, row, column, height, width * channels] of all crops of all images."""
        image, row, column, _ = pixels.stride()
        span = 2 * self.config.crop_padding + 1
        shape = (len(pixels), span, span, self.height, self.width * self.channels)
        return pixels.as_strided(shape, (image, row, column, row, 1))

    def _crop(self, order: Tensor, rows: Tensor, columns: Tensor, mirrored: Tensor) -> Tensor:
        """The uint8 images of a batch [batch, channels, height, width]; those at `mirrored` are flipped."""
        images = self.windows[order, rows, columns].view(-1, self.height, self.width, self.channels)
        images[mirrored] = images[mirrored].flip(2)
        return images.permute(0, 3, 1, 2)
