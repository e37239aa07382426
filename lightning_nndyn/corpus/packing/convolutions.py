"""Convolutions as one matrix product, for stacks."""

from torch import Tensor

from lightning_nndyn.corpus.convolutions import PlainConv2d, windows


class ProductConv2d(PlainConv2d):
    """A convolution as the product of its weight [filters, inputs] with the windows it looks at.

    In a stack the product is one batched product of all runs, where a convolution becomes one with as many
    groups as there are runs. The windows are copied: they take the kernel's area times the input's memory.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Maps [N, inputs, H, W] to [N, filters, H', W']."""
        filters, inputs, *kernel = self.weight.shape
        seen = windows(images, kernel, self.stride, self.padding)
        count, _, height, width, *_ = seen.shape
        columns = seen.permute(1, 4, 5, 0, 2, 3).reshape(inputs * kernel[0] * kernel[1], -1)
        maps = self.weight.reshape(filters, -1) @ columns
        if self.bias is not None:
            maps = maps + self.bias.to(maps.dtype).unsqueeze(1)
        return maps.unflatten(1, (count, height, width)).transpose(0, 1).contiguous()
