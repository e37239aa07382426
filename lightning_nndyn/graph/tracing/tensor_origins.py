"""The channel origins of all tensors of one forward pass, through views and writes in place.

Tensors are known by identity and held weakly: nothing is kept alive. When a tensor was written to through a
view of it, or a view is older than a write to its base, the origins are found by the view's strides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from lightning_nndyn.graph.tracing.operation import Operation, map_tensors
from lightning_nndyn.graph.tracing.origins import (
    NO_ORIGINS,
    ChannelOrigins,
    carries_origins,
    compress,
    non_empty,
)


class OriginTable:
    """The origins of tensors by identity.

    Args:
        ignored: the model's parameters and buffers, which have no origins.
        external: gives the origins of a tensor that was made outside of the forward pass.
    """

    def __init__(self, ignored: Iterable[Tensor], external: Callable[[Tensor], ChannelOrigins]) -> None:
        self._ignored = {id(tensor): tensor for tensor in ignored}
        self._external = external
        self._known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._clock = 0  # writes so far: tells whether a view or its base was written to last

    def ignore(self, tensor: Tensor) -> None:
        """Treats one more tensor as the model's own, and keeps it alive: its identity must stay its own."""
        self._ignored.setdefault(id(tensor), tensor)

    def __contains__(self, tensor: Tensor) -> bool:
        """Whether the tensor is the model's own or has been seen."""
        return id(tensor) in self._ignored or tensor in self._known

    def __getitem__(self, tensor: Tensor) -> ChannelOrigins:
        """The origins of the tensor's entries."""
        if id(tensor) in self._ignored:
            return NO_ORIGINS
        found, time = self._known.get(tensor, (None, -1))
        base = tensor._base
        if base is not None:
            whole, changed = self._known.get(base, (NO_ORIGINS, -1))
            if changed > time:  # the base was written to since the view was taken
                self.record(tensor, found := _read_view(whole, base, tensor))
        if found is None:
            # FSDP puts whole parameters in the places of sharded ones.
            is_own = isinstance(tensor, nn.Parameter) or (base is not None and id(base) in self._ignored)
            outside = carries_origins(tensor) and not is_own
            self.record(tensor, found := self._external(tensor) if outside else NO_ORIGINS)
        return found

    def record(self, tensor: Tensor, origins: ChannelOrigins) -> None:
        """Sets the origins of a new tensor."""
        if id(tensor) not in self._ignored:
            self._clock += 1
            self._known[tensor] = (origins, self._clock)

    def record_inplace(self, tensor: Tensor, origins: ChannelOrigins) -> None:
        """Sets the origins of a tensor that was written to in place; its base gets them, too."""
        base = tensor._base
        if base is not None and base.numel():
            whole = self[base]
            if whole or origins:
                self.record(base, _write_view(whole, base, tensor, origins))
        self.record(tensor, origins)

    def record_outputs(self, operation: Operation, found: Iterable[ChannelOrigins]) -> None:
        """Sets the origins of what an operation returned, new or written in place."""
        given = {id(tensor) for tensor in operation.tensors}
        for tensor, origins in zip(operation.outputs, found, strict=True):
            if id(tensor) in given:
                self.record_inplace(tensor, origins)
            else:
                self.record(tensor, origins)

    def record_item(self, target: Tensor, index: Any, value: Any) -> None:
        """Follows ``target[index] = value``."""
        before = self[target]
        new = self[value] if isinstance(value, Tensor) else NO_ORIGINS
        if not before and not new:
            return
        index = map_tensors(index, lambda tensor: tensor.cpu())
        label_maps = []
        for level in range(max(len(before.label_maps), len(new.label_maps))):
            canvas = _level(before, level).expand(target.shape).clone()
            labels = _level(new, level)
            canvas[index] = labels.expand(value.shape) if isinstance(value, Tensor) else labels
            label_maps.append(compress(canvas))
        unordered = before.unordered_sources | new.unordered_sources
        self.record_inplace(target, non_empty(label_maps, unordered))


def _level(origins: ChannelOrigins, level: int) -> Tensor:
    maps = origins.label_maps
    return maps[level] if level < len(maps) else torch.tensor(-1)


def _as_in_memory(label_map: Tensor, base: Tensor) -> Tensor:
    """Labels with the strides of the base, so that its views can be taken of them."""
    canvas = torch.empty_strided(base.shape, base.stride(), dtype=torch.long)
    return canvas.copy_(label_map.expand(base.shape))


def _window(canvas: Tensor, base: Tensor, view: Tensor) -> Tensor:
    """The part of the base's labels that a view covers."""
    return canvas.as_strided(view.shape, view.stride(), int(view.storage_offset() - base.storage_offset()))


def _read_view(whole: ChannelOrigins, base: Tensor, view: Tensor) -> ChannelOrigins:
    """The origins of a view, of those of its base."""
    label_maps = [compress(_window(_as_in_memory(one, base), base, view)) for one in whole.label_maps]
    return non_empty(label_maps, whole.unordered_sources)


def _write_view(whole: ChannelOrigins, base: Tensor, view: Tensor, part: ChannelOrigins) -> ChannelOrigins:
    """The origins of a base after a view of it got those of ``part``."""
    label_maps = []
    for level in range(max(len(whole.label_maps), len(part.label_maps))):
        canvas = _as_in_memory(_level(whole, level), base)
        _window(canvas, base, view).copy_(_level(part, level).expand(view.shape))
        label_maps.append(compress(canvas))
    return non_empty(label_maps, whole.unordered_sources | part.unordered_sources)
