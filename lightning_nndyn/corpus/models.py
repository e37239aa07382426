"""The paper's networks, with the layer sizes that its Table 5 implies.

Every constructor takes ``(num_classes=10, dropout=0.0)`` and returns a plain module. `resnet50` is
torchvision's.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_nndyn.errors import MissingExtraError


def lenet5(
    num_classes: int = 10, dropout: float = 0.0, *, in_channels: int = 3, image_size: int = 32
) -> nn.Sequential:
    """LeNet-5: convolutions of 6 and 16 filters, fully connected layers of 120, 84 and ``num_classes``.

    With 100 classes the hidden layers have 336 and 252 neurons, which gives Table 5's counts for
    ImageNet-100.

    Args:
        num_classes: neurons of the last layer.
        dropout: probability before each of the two hidden fully connected layers.
        in_channels: channels of the images.
        image_size: height and width of the images in pixels, at least 4. Below 16 the 5x5 convolutions are
            padded by 2, as nothing would be left of the image otherwise; the rolled graph does not depend on
            it.

    Raises:
        ValueError: if ``image_size`` is below 4.
    """
    if image_size < 4:
        raise ValueError(f"image_size={image_size} is too small for two 2x2 poolings: pass at least 4")
    padding = 0 if image_size >= 16 else 2
    side = ((image_size - 4 + 2 * padding) // 2 - 4 + 2 * padding) // 2
    hidden = (336, 252) if num_classes == 100 else (120, 84)
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(16 * side * side, hidden[0]),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden[0], hidden[1]),
        nn.ReLU(),
        nn.Linear(hidden[1], num_classes),
    )


def alexnet(
    num_classes: int = 10, dropout: float = 0.0, *, in_channels: int = 3, image_size: int = 32
) -> nn.Sequential:
    """AlexNet for small images: convolutions 96, 256, 384, 384, 256; linear 1024, 512, ``num_classes``.

    ``image_size`` is the height and width of the images in pixels; the rolled graph does not depend on it.

    Raises:
        ValueError: if ``image_size`` is below 15.
    """
    side = image_size
    for _ in range(3):  # the first convolution and two poolings: each ends at the same size
        side = (side - 3) // 2 + 1
    if side < 1:
        raise ValueError(f"image_size={image_size} leaves nothing of the image: pass at least 15")
    return nn.Sequential(
        nn.Conv2d(in_channels, 96, 7, stride=2, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        *_convolutions(256, (384, 384, 256)),
        nn.Flatten(),
        *_head(256 * side * side, (1024, 512), num_classes, dropout),
    )


def vgg7(
    num_classes: int = 10, dropout: float = 0.0, *, in_channels: int = 3, image_size: int = 32
) -> nn.Sequential:
    """What the paper calls VGG13: seven 3x3 convolutions without batch normalisation, for small images.

    ``image_size`` is the height and width of the images in pixels; the rolled graph does not depend on it.

    Raises:
        ValueError: if ``image_size`` is below 16.
    """
    side = image_size // 16
    if side < 1:
        raise ValueError(f"image_size={image_size} is too small for four 2x2 poolings: pass at least 16")
    stages = ((in_channels, (64,)), (64, (128, 128)), (128, (256, 256)), (256, (256, 256)))
    features = [
        layer for inputs, widths in stages for layer in (*_convolutions(inputs, widths), nn.MaxPool2d(2))
    ]
    return nn.Sequential(*features, nn.Flatten(), *_head(256 * side * side, (128, 128), num_classes, dropout))


def _convolutions(inputs: int, widths: tuple[int, ...]) -> Iterator[nn.Module]:
    for width in widths:
        yield nn.Conv2d(inputs, width, 3, padding=1)
        yield nn.ReLU()
        inputs = width


def _head(inputs: int, widths: tuple[int, ...], num_classes: int, dropout: float) -> Iterator[nn.Module]:
    for width in widths:
        yield nn.Dropout(dropout)
        yield nn.Linear(inputs, width)
        yield nn.ReLU()
        inputs = width
    yield nn.Linear(inputs, num_classes)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut that has no parameters (option A of He et al., 2016)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.extra = width - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, inputs, H, W] to [N, width, H / stride, W / stride]."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.extra:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))
        return F.relu(out + shortcut)


def _cifar_resnet(blocks: int, num_classes: int, dropout: float, in_channels: int) -> nn.Sequential:
    stem = [nn.Conv2d(in_channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    body: list[nn.Module] = []
    inputs = 16
    for width in (16, 32, 64):
        for index in range(blocks):
            body.append(BasicBlock(inputs, width, stride=2 if index == 0 and width > 16 else 1))
            inputs = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, num_classes)]
    return nn.Sequential(*stem, *body, *head)


def resnet32(num_classes: int = 10, dropout: float = 0.0, *, in_channels: int = 3) -> nn.Sequential:
    """ResNet-32 for CIFAR: three stages of 5 blocks with 16, 32 and 64 filters, option-A shortcuts."""
    return _cifar_resnet(5, num_classes, dropout, in_channels)


def resnet44(num_classes: int = 10, dropout: float = 0.0, *, in_channels: int = 3) -> nn.Sequential:
    """ResNet-44 for CIFAR: as `resnet32` with 7 blocks a stage."""
    return _cifar_resnet(7, num_classes, dropout, in_channels)


def resnet50(num_classes: int = 10, dropout: float = 0.0) -> nn.Module:
    """Torchvision's ResNet-50 with ``num_classes`` outputs; ``dropout`` acts before the last layer.

    Raises:
        MissingExtraError: if torchvision is not installed.
    """
    try:
        from torchvision.models import resnet50 as torchvision_resnet50
    except ImportError as error:
        raise MissingExtraError("torchvision", "vision", "ResNet-50") from error
    model: nn.Module = torchvision_resnet50(num_classes=num_classes)
    if dropout:
        model.fc = nn.Sequential(nn.Dropout(dropout), model.get_submodule("fc"))
    return model
