"""Convolutions on maps of a few pixels, whose weights torch is slow to find the gradient of on a CPU.

Small images end in such maps: AlexNet's last three convolutions see one pixel of images of 16 x 16, and take
more than half of a training step there. As one matrix product it takes a seventh of that.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from lightning_nndyn.corpus.convolutions import PlainConv2d, windows

_FEW_PIXELS = 9  # from 16 on the product gains little, from 64 on it loses


class SmallMapConv2d(PlainConv2d):
    """A convolution that finds the gradient of its weights by a matrix product where its maps are small."""

    def forward(self, images: Tensor) -> Tensor:
        """Maps [N, inputs, H, W] to [N, filters, H', W']."""
        if self._pixels(images) > _FEW_PIXELS:
            return F.conv2d(images, self.weight, self.bias, self.stride, self.padding)
        maps = cast(Tensor, _Convolve.apply(images, self.weight, self.stride, self.padding))
        return maps if self.bias is None else maps + self.bias[:, None, None]

    def _pixels(self, images: Tensor) -> int:
        """Of a map that comes out."""
        height, width = (
            (size + 2 * padding - kernel) // stride + 1
            for size, padding, kernel, stride in zip(
                images.shape[2:], self.padding, self.weight.shape[2:], self.stride, strict=True
            )
        )
        return height * width


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        images, weight = ctx.saved_tensors
        filters, inputs, *kernel = weight.shape
        for_images = None
        if ctx.needs_input_grad[0]:
            for_images = conv2d_input(images.shape, weight, gradient, ctx.stride, ctx.padding)
        seen = windows(images, kernel, ctx.stride, ctx.padding).permute(0, 2, 3, 4, 5, 1)
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, filters)
        for_weight = rows.T @ seen.reshape(len(rows), -1)
        return for_images, for_weight.view(filters, *kernel, inputs).permute(0, 3, 1, 2), None, None
