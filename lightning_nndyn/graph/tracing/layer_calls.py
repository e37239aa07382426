"""The layer calls of a forward pass: what each one reads, and by which weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from lightning_nndyn.graph.blocks import LayerWeight
from lightning_nndyn.graph.tracing.channel_map import ChannelMap, channel_maps
from lightning_nndyn.graph.tracing.origins import ChannelOrigins, channel_labels
from lightning_nndyn.graph.tracing.parameters import Weight


class ExternalAxis(NamedTuple):
    """One axis of a tensor that was made outside of the forward pass.

    Attributes:
        tensor: number of the tensor.
        axis: number of the axis.
        size: its length.
    """

    tensor: int
    axis: int
    size: int


@dataclass(frozen=True)
class LayerInput:
    """One product of a layer call: the weight, and where what it multiplies comes from.

    Attributes:
        weight: the weight.
        origins: of the tensor that the weight multiplies.
        axis: of that tensor, the one that holds the input positions.
        size: number of input positions.
        groups: of the weight.
        transposed: whether the weight's input axis comes first.
    """

    weight: Weight
    origins: ChannelOrigins
    axis: int
    size: int
    groups: int = 1
    transposed: bool = False

    def channel_maps(self, source: int | None = None) -> Mapping[int, ChannelMap]:
        """For each source whose layout is known, which of its channels reach which input positions.

        Args:
            source: the only one that is wanted; None for all.
        """
        return channel_maps(self.origins, self.axis, self.size, source)

    def is_in_order(self, source: int, channels: int) -> bool:
        """Whether each channel of a source fills a run of positions, as after a flatten.

        A short cut for the usual case: False if the source comes in several ways.
        """
        label_maps = self.origins.maps_of(source)
        if self.size % channels or channels % self.groups or len(label_maps) != 1:
            return False
        (labels,) = label_maps
        if labels.numel() != labels.shape[self.axis]:
            return False
        expected = channel_labels(source, channels)
        if channels < self.size:
            expected = expected.repeat_interleave(self.size // channels)
        return torch.equal(labels.reshape(-1).expand(self.size), expected)


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer, which is one node layer of the graph.

    Attributes:
        name: the layer's name.
        module: the name of the module that owns its weight.
        size: number of nodes.
        inputs: its products; none for an embedding, whose channels are inputs of the graph.
        kind: see `lightning_nndyn.graph.tracing.layer_kinds`.
    """

    name: str
    module: str
    size: int
    inputs: Sequence[LayerInput] = ()
    kind: str = ""

    def weight(self, layer_input: LayerInput) -> LayerWeight:
        """How the edges of one of its products are read."""
        weight, groups, transposed = layer_input.weight, layer_input.groups, layer_input.transposed
        return LayerWeight(
            self.name, weight.read, groups, transposed, kind=self.kind, parameter=weight.parameter
        )
