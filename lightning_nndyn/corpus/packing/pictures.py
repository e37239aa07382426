"""Images on the device, as bytes; a batch is cut, mirrored and normalised there."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_nndyn.corpus.training.batches import EpochPlan
from lightning_nndyn.corpus.training.data import ImageData
from lightning_nndyn.corpus.training.network import layout


class Pictures:
    """A data set on the device, for all runs of a pack."""

    def __init__(self, data: ImageData, crop_padding: int, device: torch.device) -> None:
        """Copy it there, padded with black, channels last."""
        self.data, self.device = data, device
        _, self.height, self.width = data.shape
        padded = F.pad(data.train_images, (crop_padding,) * 4)
        self.pixels = padded.permute(0, 2, 3, 1).contiguous().to(device)
        self.labels = data.train_labels.to(device)
        self.test_images = data.test_images.contiguous(memory_format=layout(data)).to(device)
        self.test_labels = data.test_labels.to(device)

    def batch(self, plan: EpochPlan) -> tuple[Tensor, Tensor]:
        """What a plan with parts [runs, batch] asks for.

        Returns:
            Images in -1..1, float [runs, batch, channels, height, width], and labels [runs, batch].
        """
        order, rows, columns, flipped = (part.long()[:, :, None, None] for part in plan)
        across = torch.arange(self.width, device=self.device)
        across = torch.where(flipped.bool(), self.width - 1 - across, across)
        down = torch.arange(self.height, device=self.device)[:, None]
        pixels = self.pixels[order, rows + down, columns + across]
        return self.data.normalise(pixels.permute(0, 1, 4, 2, 3)), self.labels[plan.order.long()]
