"""Puts other ways to compute a convolution in the place of a network's own."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F


class PlainConv2d(nn.Module):
    """What stands in for a convolution: its parameters and its geometry, to be computed in another way."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Take over a convolution's parameters, under the same names."""
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.stride = cast(tuple[int, int], convolution.stride)
        self.padding = cast(tuple[int, int], convolution.padding)


def replace_convolutions(network: nn.Module, replacement: type[PlainConv2d]) -> None:
    """Put others in the place of a network's plain convolutions; grouped and dilated ones are left."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d) and _plain(module):
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, replacement(module))


def _plain(convolution: nn.Conv2d) -> bool:
    return (
        convolution.groups == 1
        and convolution.dilation == (1, 1)
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
    )


def windows(images: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """What a kernel sees of maps [N, inputs, H, W]: a view, [N, inputs, H', W', kernel's H, kernel's W]."""
    down, across = padding
    padded = F.pad(images, (across, across, down, down))
    return padded.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])
