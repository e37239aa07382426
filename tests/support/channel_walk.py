"""Which channel of which layer feeds which layer, by gradients: an oracle for single channels.

Every layer's output is cut off and replaced by fresh positive numbers. The gradient of what the next layer
reads, with respect to those, then tells its direct dependence on each channel. Normalisations are taken out:
by their statistics each channel depends on all, which a rolled graph does not count.
"""

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


@dataclass
class Channels:
    """What the gradients tell.

    Attributes:
        nodes: channels of all layer calls, with those of inputs and of constants that layers read.
        edges: pairs of a channel and a node of a layer that reads it.
        pairs: the layers that feed each other, by the names of their modules.
    """

    nodes: int = 0
    edges: int = 0
    pairs: set[tuple[str, str]] = field(default_factory=set)


@dataclass
class _Cut:
    """A tensor that was put in the place of a layer's output, or of an input."""

    name: str
    leaf: Tensor
    axis: int


def channel_walk(
    model: nn.Module,
    run: Callable[[nn.Module], Any],
    inputs: list[Tensor],
    axis: int,
    left_out: Container[str] = (),
) -> Channels:
    """Walks through a model in evaluation mode whose layers are all linear, convolutions or embeddings.

    Args:
        model: the model.
        run: calls it with the inputs.
        inputs: its floating inputs.
        axis: the one that holds their channels.
        left_out: names of modules that are no layers.
    """
    walk = _Walk([_Cut("input", x.requires_grad_(), axis) for x in inputs])
    with torch.enable_grad(), walk.watching(model, left_out):
        run(model)
    return walk.found


class _Walk:
    def __init__(self, cuts: list[_Cut]) -> None:
        self._cuts = cuts
        self._read = [torch.zeros(cut.leaf.shape[cut.axis], dtype=torch.bool) for cut in cuts]
        self.found = Channels()

    @contextmanager
    def watching(self, model: nn.Module, left_out: Container[str]) -> Iterator[None]:
        handles = []
        for name, module in model.named_modules():
            if is_layer(module) and name not in left_out:
                handles.append(module.register_forward_hook(partial(self._layer, name)))
            elif "Norm" in type(module).__name__ and not any(map(is_layer, module.modules())):
                handles.append(module.register_forward_hook(_without_norm))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        self.found.nodes += sum(int(read.sum()) for read in self._read)

    def _layer(self, name: str, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        axis = out.dim() - module.weight.dim() + 1 if isinstance(module, _ConvNd) else out.dim() - 1
        self.found.nodes += out.shape[axis]
        if not isinstance(module, nn.Embedding):
            self._count(name, module, args[0], axis, out.shape[axis])
        leaf = (torch.rand(out.shape) + 0.1).requires_grad_()
        self._cuts.append(_Cut(name, leaf, axis))
        return leaf * 1

    def _count(self, name: str, module: nn.Module, x: Tensor, axis: int, outputs: int) -> None:
        groups = getattr(module, "groups", 1)
        size = x.shape[axis]
        reached = self._reached(x.movedim(axis, 0).unflatten(0, (groups, -1)), groups)
        for cut, number in reached:
            self.found.pairs.add((cut.name, name))
            self.found.edges += number * (outputs // groups)
        if not reached:
            self.found.pairs.add(("constant", name))
            self.found.nodes += size
            self.found.edges += size * outputs // groups

    def _reached(self, x: Tensor, groups: int) -> list[tuple[_Cut, int]]:
        """For each cut tensor the number of its channels that reach ``x``, counted in each group of it."""
        if not x.requires_grad:
            return []
        hits = self._hits(x)
        for read, hit in zip(self._read, hits, strict=False):
            read |= hit
        if groups == 1 or self._each_in_one_group(x, groups):
            counts = [int(hit.sum()) for hit in hits]
        else:
            single = [self._hits(x[group]) for group in range(groups)]
            counts = [sum(int(hit.sum()) for hit in column) for column in zip(*single, strict=True)]
        return [(cut, count) for cut, count in zip(self._cuts, counts, strict=True) if count]

    def _each_in_one_group(self, x: Tensor, groups: int) -> bool:
        """Whether no channel reaches two groups: two groups differ in some bit of their numbers."""
        if groups < 8:
            return False  # looking at each is as quick
        number = torch.arange(groups)
        for bit in range((groups - 1).bit_length()):
            with_bit = number >> bit & 1 == 1
            pairs = zip(self._hits(x[with_bit]), self._hits(x[~with_bit]), strict=True)
            if any(bool((one & other).any()) for one, other in pairs):
                return False
        return True

    def _hits(self, x: Tensor) -> list[Tensor]:
        """Which channels of each cut tensor reach ``x``."""
        leaves = [cut.leaf for cut in self._cuts]
        weighted = (x * (torch.rand(x.shape) + 0.1)).sum()
        gradients = torch.autograd.grad(weighted, leaves, retain_graph=True, allow_unused=True)
        return [
            torch.zeros(cut.leaf.shape[cut.axis], dtype=torch.bool)
            if gradient is None
            else gradient.movedim(cut.axis, 0).flatten(1).abs().sum(1) > 0
            for cut, gradient in zip(self._cuts, gradients, strict=True)
        ]


def _without_norm(module: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
    same = isinstance(out, Tensor) and isinstance(args[0], Tensor) and out.shape == args[0].shape
    return args[0] * 1 if same else out


def is_layer(module: nn.Module) -> bool:
    """Whether the walk knows a module's kind."""
    return isinstance(module, (nn.Linear, nn.Embedding, _ConvNd)) or type(module).__name__ == "Conv1D"
