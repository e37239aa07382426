"""Running a model's forward pass: without side effects, and on an input that it may take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.tracing.compiled_modules import named_modules
from lightning_nndyn.graph.tracing.layer_kinds import is_plain_layer

# Image sizes that are tried, the commonest first: CIFAR, ImageNet, MNIST.
_IMAGE_SIZES = (32, 224, 28, 64, 8, 16, 96, 128, 48, 256, 299, 384, 512)


def call_model(model: nn.Module, example: Any) -> Any:
    """Calls a module with one tensor, a tuple of arguments, or a mapping of keyword arguments."""
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, (tuple, list)) else model(example)


@contextmanager
def side_effect_free(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; training flags and random state are restored at the end."""
    modes = [(module, module.training) for module in model.modules()]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it would run an encoder in one kernel, past every hook
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=sorted(devices)), torch.no_grad():
            model.eval()
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, training in modes:
            module.training = training


def candidate_inputs(model: nn.Module) -> list[Any]:
    """Inputs that the model may take: its own example, or guesses from the shape of its first layer.

    Raises:
        TracingError: if it has neither an example nor a convolution or linear layer.
    """
    example = getattr(model, "example_input_array", None)
    if example is not None:
        return [example]
    first = next(iter(plain_layers(model).values()), None)
    if first is None:
        raise TracingError(
            f"{type(model).__name__} has no convolution or linear layer to guess an input from; pass "
            f"example_input=, or name the chain's layers yourself: layers=['first', ..., 'last']"
        )
    weight = first.weight
    if isinstance(first, nn.Linear):
        shapes: list[tuple[int, ...]] = [(2, first.in_features)]
    else:
        axes = weight.dim() - 2
        shapes = [(2, first.in_channels, *(size,) * axes) for size in _IMAGE_SIZES]
    return [torch.zeros(shape, dtype=weight.dtype, device=weight.device) for shape in shapes]


def plain_layers(model: nn.Module) -> dict[str, Any]:
    """The convolutions and linear layers of a model, by name."""
    return {name: m for name, m in named_modules(model) if is_plain_layer(m)}
