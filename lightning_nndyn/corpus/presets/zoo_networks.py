"""The networks of the `zoo` preset: small CNNs and MLPs, built from JSON-able options."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nndyn.errors import CorpusError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
NORMALISATIONS = ("none", "batch", "layer", "group")
KINDS = ("cnn", "mlp")
POOLINGS = ("max", "average", "stride")
HEADS = ("average", "flatten")

_LAST_SIDE = 4  # pixels: smaller maps are not halved; the flatten head averages larger maps to this size
_GROUPS = 4  # of GroupNorm, where they divide the width


def zoo_network(
    num_classes: int = 10,
    dropout: float = 0.0,
    *,
    in_channels: int = 3,
    image_size: int = 32,
    kind: str,
    widths: Sequence[int],
    kernel: int = 3,
    activation: str,
    normalisation: str,
    residual: bool,
    init_scale: float,
    pooling: str = "max",
    head: str = "average",
    hidden: Sequence[int] = (),
) -> nn.Module:
    """A network of `len(widths)` layers and a classifier; its first weights come from torch's random state.

    Each layer is a convolution ("cnn") or a linear layer ("mlp"), its normalisation and its activation. A
    CNN halves its feature maps up to three times, until they are 4x4, at the layers `halving_layers` returns.

    Args:
        num_classes: Neurons of the last layer.
        dropout: Probability before each linear layer, except on the image itself.
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels.
        kind: "cnn" or "mlp".
        widths: Filters of each convolution, or neurons of each hidden layer of an MLP.
        kernel: Height and width of a CNN's filters, odd.
        activation: One of `ACTIVATIONS`.
        normalisation: "none", "batch", "layer" (over all of an image's features) or "group" (4 groups, if
            they divide the width).
        residual: Adds a layer's input to its output before the activation, padded with zeros to the layer's
            width; not in the first layer and not in one narrower than its input.
        init_scale: Factor on all weights of torch's default initialisation; 6^(1/2) gives the variance of He
            et al. (2015).
        pooling: How a CNN halves its maps: "max", "average" or "stride" (of the convolution).
        head: What a CNN's classifier reads: "average" over each map, or "flatten" of maps averaged to 4x4.
        hidden: Neurons of hidden linear layers in a CNN's classifier.

    Raises:
        CorpusError: An option is none of its choices.
    """
    check_choices(
        kind=(kind, KINDS),
        activation=(activation, ACTIVATIONS),
        normalisation=(normalisation, NORMALISATIONS),
        pooling=(pooling, POOLINGS),
        head=(head, HEADS),
    )
    if not widths or kernel % 2 == 0:
        raise CorpusError(f"widths={widths}, kernel={kernel}: pass at least one width and an odd kernel")
    style = _Style(activation, normalisation, residual)
    if kind == "cnn":
        body = _convolutions(style, (in_channels, *widths), kernel, pooling, image_size)
        side = 1 if head == "average" else _LAST_SIDE
        sizes = (widths[-1] * side**2, *hidden, num_classes)
        model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(side), nn.Flatten(), *_head(style, sizes, dropout))
    else:
        body = _linears(style, (in_channels * image_size**2, *widths), dropout)
        model = nn.Sequential(nn.Flatten(), *body, nn.Linear(widths[-1], num_classes))
    scale_weights(model, init_scale)
    return model


def halving_layers(depth: int, image_size: int) -> list[int]:
    """The layers of a CNN that halve their maps: evenly spread over its `depth`, from the first on."""
    halvings = 0
    while image_size >> halvings > _LAST_SIDE:
        halvings += 1
    halvings = min(halvings, depth)
    return [index * depth // halvings for index in range(halvings)]


def check_choices(**options: tuple[str, Collection[str]]) -> None:
    """Refuse an option that is none of its choices.

    Raises:
        CorpusError: names the first such option.
    """
    for name, (value, choices) in options.items():
        if value not in choices:
            raise CorpusError(f"{name}={value!r} is unknown: choose from {', '.join(choices)}")


class _Layer(nn.Module):
    """A convolution or linear layer, its normalisation, the shortcut and the activation."""

    def __init__(
        self, product: nn.Conv2d | nn.Linear, normalisation: nn.Module, activation: nn.Module, residual: bool
    ) -> None:
        super().__init__()
        outputs, inputs = product.weight.shape[:2]
        self.product, self.normalisation, self.activation = product, normalisation, activation
        self.residual = residual and outputs >= inputs
        self.extra = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, inputs, ...] to [N, outputs, ...]."""
        out: Tensor = self.normalisation(self.product(x))
        if self.residual:
            out = out + self._shortcut(x)
        activated: Tensor = self.activation(out)
        return activated

    def _shortcut(self, x: Tensor) -> Tensor:
        if isinstance(self.product, nn.Conv2d):
            stride = self.product.stride[0]
            x = x[:, :, ::stride, ::stride]
        return F.pad(x, (0, 0) * (x.dim() - 2) + (0, self.extra)) if self.extra else x


@dataclass(frozen=True)
class _Style:
    """Options that all layers of a network share."""

    activation: str
    normalisation: str
    residual: bool

    @property
    def bias(self) -> bool:
        """Whether layers have a bias of their own: a normalisation brings one."""
        return self.normalisation == "none"

    def activate(self) -> nn.Module:
        return ACTIVATIONS[self.activation]()

    def layer(self, product: nn.Conv2d | nn.Linear, first: bool) -> _Layer:
        maps = isinstance(product, nn.Conv2d)
        norm = normalisation(self.normalisation, product.weight.shape[0], maps)
        return _Layer(product, norm, self.activate(), self.residual and not first)


def _convolutions(
    style: _Style, sizes: Sequence[int], kernel: int, pooling: str, image_size: int
) -> Iterator[nn.Module]:
    halve = halving_layers(len(sizes) - 1, image_size)
    for index, (before, width) in enumerate(pairwise(sizes)):
        stride = 2 if pooling == "stride" and index in halve else 1
        product = nn.Conv2d(before, width, kernel, stride, padding=kernel // 2, bias=style.bias)
        yield style.layer(product, index == 0)
        if index in halve and pooling != "stride":
            yield nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2)


def _linears(style: _Style, sizes: Sequence[int], dropout: float) -> Iterator[nn.Module]:
    for index, (before, width) in enumerate(pairwise(sizes)):
        yield style.layer(nn.Linear(before, width, bias=style.bias), index == 0)
        yield nn.Dropout(dropout)


def _head(style: _Style, sizes: Sequence[int], dropout: float) -> Iterator[nn.Module]:
    for before, width in pairwise(sizes[:-1]):
        yield nn.Dropout(dropout)
        yield nn.Linear(before, width)
        yield style.activate()
    yield nn.Dropout(dropout)
    yield nn.Linear(sizes[-2], sizes[-1])


def normalisation(name: str, width: int, maps: bool) -> nn.Module:
    """The normalisation of that name for maps [N, width, ...] or for rows [N, width]."""
    if name == "none":
        return nn.Identity()
    if name == "batch":
        return nn.BatchNorm2d(width) if maps else nn.BatchNorm1d(width)
    if name == "layer":
        return nn.GroupNorm(1, width) if maps else nn.LayerNorm(width)
    return nn.GroupNorm(gcd(_GROUPS, width), width)


@torch.no_grad()
def scale_weights(model: nn.Module, scale: float) -> None:
    """Multiply the weights of all convolutions and linear layers, in place."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.mul_(scale)
