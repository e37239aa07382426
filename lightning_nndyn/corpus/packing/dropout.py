"""Dropout by masks that come from outside: the ones a run draws when it is trained by itself."""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from lightning_nndyn.corpus.packing.layouts import memory_order
from lightning_nndyn.errors import CorpusError


class DropoutSite(NamedTuple):
    """One call of a dropout layer in a forward pass.

    Attributes:
        name: The layer's name in its network.
        shape: Of one image's part of the input.
        order: Of the input's dimensions in memory: masks are drawn in it.
    """

    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...]


class MaskFeed:
    """Hands the masks of a forward pass to the dropout layers, in the order of their calls."""

    def __init__(self) -> None:
        """Note the calls until masks are given."""
        self.sites: list[DropoutSite] = []
        self._masks: Sequence[tuple[Tensor, Tensor]] | None = None
        self._next = 0

    def begin(self, masks: Sequence[tuple[Tensor, Tensor]]) -> None:
        """A forward pass starts; `masks` are of zeros and ones, uint8 [batch, ...], with their scales []."""
        self._masks, self._next = masks, 0

    def apply(self, name: str, inputs: Tensor) -> Tensor:
        """The layer's output; without masks, its inputs."""
        if self._masks is None:
            self._note(name, inputs)
        if not self._masks:
            return inputs
        mask, scale = self._masks[self._next]
        self._next += 1
        return inputs * (mask.to(inputs.dtype) * scale.to(inputs.dtype))

    def _note(self, name: str, inputs: Tensor) -> None:
        order = memory_order(inputs)
        if len(inputs) != _TRACED or order[0] != 0:
            raise CorpusError(f"dropout layer {name!r} has no batch dimension first: it cannot be packed")
        self.sites.append(DropoutSite(name, tuple(inputs.shape[1:]), order))


class MaskedDropout(nn.Module):
    """Stands for nn.Dropout in a pack's network."""

    def __init__(self, name: str, feed: MaskFeed) -> None:
        """A layer that asks `feed` for its masks."""
        super().__init__()
        self.name, self.feed = name, feed

    def forward(self, inputs: Tensor) -> Tensor:
        """The inputs, some of them zero and the others scaled up; as they are in evaluation mode."""
        return self.feed.apply(self.name, inputs) if self.training else inputs


_TRACED = 2  # images


def with_masks(
    network: nn.Module, images: Tensor, precision: torch.dtype | None
) -> tuple[nn.Module, MaskFeed]:
    """A copy of a network whose dropout layers are masked, and their feed, which knows the calls of a pass.

    Args:
        network: A network on the CPU; left as it is, and no random number is drawn.
        images: Some of the images it is trained on, laid out as in training.
        precision: Of autocast, None without.

    Raises:
        CorpusError: It has a dropout layer of another kind.
    """
    copied, feed = copy.deepcopy(network), MaskFeed()
    for name, module in network.named_modules():
        if isinstance(module, _DropoutNd):
            if type(module) is not nn.Dropout:
                raise CorpusError(f"layer {name!r} is a {type(module).__name__}: only Dropout can be packed")
            parent, _, own = name.rpartition(".")
            setattr(copied.get_submodule(parent), own, MaskedDropout(name, feed))
    trial = copy.deepcopy(copied).train()  # its running means are lost, its feed is not
    for module in trial.modules():
        if isinstance(module, MaskedDropout):
            module.feed = feed
    with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision is not None):
        trial(images[:_TRACED])
    return copied, feed


def probabilities(network: nn.Module, sites: Sequence[DropoutSite]) -> list[float]:
    """The probability with which a run drops at each site."""
    return [float(network.get_submodule(site.name).p) for site in sites]  # type: ignore[arg-type]
