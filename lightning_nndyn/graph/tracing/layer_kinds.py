"""The kinds of layers, as snapshots and predictors name them.

- ``linear``; ``conv1d``, ``conv2d``, ``conv3d`` and ``conv_transpose1d`` to ``3d``, with ``grouped_`` before
  them where channels are divided into groups, ``depthwise_`` where each channel is a group of its own;
- ``embedding``, ``lstm``, ``gru``, ``rnn`` (their cells too), ``attention``: activations multiplied by
  activations, however it is written;
- for a layer that `register_layer` describes, the name of its class.

Normalisation and activation functions are no layers of a graph and have no kind.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd

EMBEDDING, ATTENTION, LINEAR = "embedding", "attention", "linear"


def product_kind(operation: str, groups: int, inputs: int) -> str:
    """The kind of a layer that multiplies by a weight.

    Args:
        operation: the torch function's name, such as ``"conv2d"``; all but convolutions are linear.
        groups: number of groups that the channels are divided into.
        inputs: number of input channels.
    """
    if not operation.startswith("conv"):
        return LINEAR
    if groups == 1:
        return operation
    return f"{'depthwise' if groups == inputs else 'grouped'}_{operation}"


def is_plain_layer(module: nn.Module) -> bool:
    """Whether a module is a convolution or linear layer."""
    return isinstance(module, (nn.Linear, _ConvNd))


def module_kind(module: nn.Module) -> str:
    """The kind of a convolution's or linear layer's module; empty for others."""
    if isinstance(module, _ConvNd):
        operation = f"conv{'_transpose' if module.transposed else ''}{len(module.kernel_size)}d"
        return product_kind(operation, module.groups, module.in_channels)
    return LINEAR if isinstance(module, nn.Linear) else ""
