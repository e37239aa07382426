"""The convolutional families of the sweeps: each a function of the images, the classes and a `Shape`."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_nndyn.corpus.presets.sweeps.layers import Residual, Shape
from lightning_nndyn.corpus.presets.zoo_networks import halving_layers

_EXPANSION = 3  # of an inverted bottleneck
_UNET_DEPTH = 2  # halvings


def plain_cnn(channels: int, size: int, classes: int, shape: Shape) -> nn.Module:
    """`depth` convolutions that grow wider, pooled down to 4x4, and a linear layer on the maps' means."""
    halve = halving_layers(shape.depth, size)
    widths = [channels]
    layers: list[nn.Module] = []
    for index in range(shape.depth):
        widths.append(int(shape.width * 2 ** min(index / 2, 2)) // 4 * 4)
        layers.append(shape.conv_block(widths[-2], widths[-1]))
        if index in halve:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, shape.head(widths[-1], classes))


def vgg(channels: int, size: int, classes: int, shape: Shape) -> nn.Module:
    """Stages of `depth` convolutions and a pooling, then two linear layers on all positions."""
    widths = _stage_widths(shape.width, size)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([channels, *widths]):
        for index in range(shape.depth):
            layers.append(shape.conv_block(inputs if index == 0 else outputs, outputs))
        layers.append(nn.MaxPool2d(2))
    side, hidden = size >> len(widths), 4 * shape.width
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(widths[-1] * side**2, hidden),
        shape.activate(),
        nn.Dropout(shape.dropout),
        nn.Linear(hidden, classes),
    )


def resnet(channels: int, size: int, classes: int, shape: Shape) -> nn.Module:
    """Stages of `depth` residual blocks of two convolutions (He et al., 2016)."""
    blocks = [
        Residual(
            nn.Sequential(
                shape.conv_block(inputs, outputs, stride=stride),
                shape.conv(outputs, outputs),
                shape.norm(outputs),
            ),
            _projection(shape, inputs, outputs, stride),
            shape.activate(),
        )
        for inputs, outputs, stride in _residual_plan(shape, size)
    ]
    widths = _stage_widths(shape.width, size)
    return nn.Sequential(shape.conv_block(channels, shape.width), *blocks, shape.head(widths[-1], classes))


def preactivation_resnet(channels: int, size: int, classes: int, shape: Shape) -> nn.Module:
    """A ResNet with normalisation and activation before each convolution and none after the sums."""
    blocks = [
        Residual(
            nn.Sequential(
                shape.norm(inputs),
                shape.activate(),
                shape.conv_block(inputs, outputs, stride=stride),
                shape.conv(outputs, outputs),
            ),
            _projection(shape, inputs, outputs, stride),
        )
        for inputs, outputs, stride in _residual_plan(shape, size)
    ]
    last = _stage_widths(shape.width, size)[-1]
    return nn.Sequential(
        shape.conv(channels, shape.width), *blocks, shape.norm(last), shape.activate(),
        shape.head(last, classes),
    )  # fmt: skip


def inverted_bottleneck(channels: int, size: int, classes: int, shape: Shape) -> nn.Module:
    """Blocks that widen, convolve each channel by itself and narrow again (MobileNetV2)."""
    layers: list[nn.Module] = [shape.conv_block(channels, shape.width)]
    for inputs, outputs, stride in _residual_plan(shape, size):
        wide = _EXPANSION * inputs
        branch = nn.Sequential(
            shape.conv_block(inputs, wide, kernel=1),
            shape.conv(wide, wide, stride=stride, groups=wide),
            shape.norm(wide),
            shape.activate(),
            shape.conv(wide, outputs, kernel=1),
            shape.norm(outputs),
        )
        layers.append(Residual(branch) if inputs == outputs and stride == 1 else branch)
    return nn.Sequential(*layers, shape.head(_stage_widths(shape.width, size)[-1], classes))


def convnext(channels: int, size: int, classes: int, shape: Shape) -> nn.Module:
    """Patches, then blocks of a wide depthwise convolution and a small MLP (Liu et al., 2022)."""
    widths = [shape.width, 2 * shape.width]
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 2, 2), shape.norm(widths[0])]
    for stage, width in enumerate(widths):
        if stage:
            layers += [shape.norm(widths[0]), nn.Conv2d(widths[0], width, 2, 2)]
        for _ in range(shape.depth):
            branch = nn.Sequential(
                nn.Conv2d(width, width, 5, padding=2, groups=width),
                shape.norm(width),
                nn.Conv2d(width, _EXPANSION * width, 1),
                shape.activate(),
                nn.Conv2d(_EXPANSION * width, width, 1),
            )
            layers.append(Residual(branch))
    return nn.Sequential(*layers, shape.norm(widths[-1]), shape.head(widths[-1], classes))


class _UNet(nn.Module):
    """Encoder and decoder with skip connections at each level, and a classifier on top."""

    def __init__(self, channels: int, classes: int, shape: Shape) -> None:
        super().__init__()
        widths = [shape.width * 2**level for level in range(_UNET_DEPTH + 1)]
        self.down = nn.ModuleList(
            _double(shape, before, width) for before, width in pairwise([channels, *widths])
        )
        self.widen = nn.ModuleList(nn.ConvTranspose2d(wide, width, 2, 2) for width, wide in pairwise(widths))
        self.up = nn.ModuleList(_double(shape, 2 * width, width) for width in widths[:-1])
        self.pool = nn.MaxPool2d(2)
        self.head = shape.head(widths[0] + widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits; the head reads the highest level and the lowest one, upsampled."""
        passed = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            passed.append(x)
        lowest = passed.pop()
        for widen, block in zip(reversed(self.widen), reversed(self.up), strict=True):
            x = block(torch.cat([passed.pop(), widen(x)], 1))
        lowest = nn.functional.interpolate(lowest, size=x.shape[2:])
        logits: Tensor = self.head(torch.cat([x, lowest], 1))
        return logits


def unet(channels: int, size: int, classes: int, shape: Shape) -> nn.Module:
    """A small U-Net whose maps are averaged for the classes."""
    return _UNet(channels, classes, shape)


def _double(shape: Shape, inputs: int, outputs: int) -> nn.Sequential:
    blocks = [shape.conv_block(inputs if index == 0 else outputs, outputs) for index in range(shape.depth)]
    return nn.Sequential(*blocks)


def _stage_widths(width: int, size: int) -> list[int]:
    """Widths of the stages, doubled at each halving: two stages below 16 pixels, else three."""
    return [width * 2**stage for stage in range(2 if size < 16 else 3)]


def _residual_plan(shape: Shape, size: int) -> Iterator[tuple[int, int, int]]:
    """Inputs, outputs and stride of each block."""
    widths = _stage_widths(shape.width, size)
    for stage, (before, width) in enumerate(pairwise([shape.width, *widths])):
        for index in range(shape.depth):
            yield (before if index == 0 else width), width, 2 if stage and index == 0 else 1


def _projection(shape: Shape, inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if inputs == outputs and stride == 1:
        return None
    return nn.Sequential(shape.conv(inputs, outputs, 1, stride), shape.norm(outputs))
