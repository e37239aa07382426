"""Convolutions as one matrix product, for stacks."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F


class ProductConv2d(nn.Module):
    """A convolution as the product of its weight [filters, inputs] with the windows it looks at.

    In a stack the product is one batched product of all runs, where a convolution becomes one with as many
    groups as there are runs. The windows are copied: they take the kernel's area times the input's memory.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Take over a convolution's parameters, under the same names."""
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.stride = cast(tuple[int, int], convolution.stride)
        self.padding = cast(tuple[int, int], convolution.padding)

    def forward(self, images: Tensor) -> Tensor:
        """Maps [N, inputs, H, W] to [N, filters, H', W']."""
        down, across = self.padding
        padded = F.pad(images, (across, across, down, down))
        for dimension, stride in zip((2, 3), self.stride, strict=True):
            padded = padded.unfold(dimension, self.weight.shape[dimension], stride)
        count, inputs, height, width, *kernel = padded.shape
        windows = padded.permute(1, 4, 5, 0, 2, 3).reshape(inputs * kernel[0] * kernel[1], -1)
        maps = self.weight.reshape(len(self.weight), -1) @ windows
        if self.bias is not None:
            maps = maps + self.bias.to(maps.dtype).unsqueeze(1)
        return maps.unflatten(1, (count, height, width)).transpose(0, 1).contiguous()


def as_products(network: nn.Module) -> None:
    """Compute all plain convolutions of a network as products; others (grouped, dilated) are left."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d) and _plain(module):
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, ProductConv2d(module))


def _plain(convolution: nn.Conv2d) -> bool:
    return (
        convolution.groups == 1
        and convolution.dilation == (1, 1)
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
    )
