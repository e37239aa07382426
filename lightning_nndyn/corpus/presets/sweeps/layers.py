"""Building blocks of the sweeps' networks, and how their initial weights are drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_nndyn.corpus.presets.zoo_networks import ACTIVATIONS, normalisation
from lightning_nndyn.errors import CorpusError

INITIALISATIONS = ("default", "he", "xavier", "orthogonal", "truncated_normal")
_TRUNCATED_STD = 0.02  # usual for transformers


@dataclass(frozen=True)
class Shape:
    """The size and the style of a network; a family ignores what does not apply to it.

    Attributes:
        width: Channels or neurons of the first layers; deeper stages of a CNN are wider.
        depth: Layers, or blocks of a stage.
        normalisation: One of `NORMALISATIONS` of the zoo's networks.
        activation: One of `ACTIVATIONS`.
        dropout: Probability of the dropout layers.
    """

    width: int
    depth: int
    normalisation: str
    activation: str
    dropout: float

    def activate(self) -> nn.Module:
        """A fresh activation layer."""
        return ACTIVATIONS[self.activation]()

    def norm(self, channels: int) -> nn.Module:
        """A normalisation of maps [N, channels, height, width]."""
        return normalisation(self.normalisation, channels, maps=True)

    def conv(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
        """A convolution that keeps the maps' size except for its stride; no bias before a normalisation."""
        bias = self.normalisation == "none"
        return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)

    def conv_block(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
        """Convolution, normalisation and activation."""
        return nn.Sequential(self.conv(inputs, outputs, kernel, stride), self.norm(outputs), self.activate())

    def head(self, channels: int, num_classes: int) -> nn.Sequential:
        """The classifier: mean over each map, dropout, one linear layer."""
        return nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(self.dropout), nn.Linear(channels, num_classes)
        )


class Residual(nn.Module):
    """Adds the output of a branch to that of a shortcut, which is the input itself unless given."""

    def __init__(
        self, branch: nn.Module, shortcut: nn.Module | None = None, after: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.branch, self.shortcut, self.after = branch, shortcut or nn.Identity(), after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Branch and shortcut must give the same shape."""
        out: Tensor = self.after(self.shortcut(x) + self.branch(x))
        return out


@torch.no_grad()
def draw_weights(model: nn.Module, initialisation: str) -> None:
    """Draw new weights for all convolutions and linear layers, in place.

    Raises:
        CorpusError: There is no such initialisation.
    """
    if initialisation not in INITIALISATIONS:
        raise CorpusError(
            f"initialisation={initialisation!r} is unknown: choose from {', '.join(INITIALISATIONS)}"
        )
    if initialisation == "default":
        return
    draws: dict[str, Callable[[Tensor], Tensor]] = {
        "he": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
        "xavier": nn.init.xavier_uniform_,
        "orthogonal": nn.init.orthogonal_,
        "truncated_normal": lambda weight: nn.init.trunc_normal_(weight, std=_TRUNCATED_STD),
    }
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            draws[initialisation](module.weight)
            if module.bias is not None:
                module.bias.zero_()


@torch.no_grad()
def shrink_branches(model: nn.Module, factor: float) -> None:
    """Multiply the last weights of each residual branch: without normalisation the sums would grow."""
    for module in model.modules():
        if isinstance(module, Residual):
            last = [part for part in module.branch.modules() if isinstance(part, nn.Conv2d | nn.Linear)][-1]
            last.weight.mul_(factor)
