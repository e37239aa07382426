"""Who made each tensor of a forward pass, through views and writes in place.

Tensors are known by identity, weakly: nothing is kept alive. A view of a tensor that was written to since,
or a tensor of which a view was written to, is looked up in the other's labels by its strides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from lightning_nndyn.graph.tracing import origins as pv
from lightning_nndyn.graph.tracing.origins import NOTHING, Provenance
from lightning_nndyn.graph.tracing.propagation import carries


class Stamps:
    """The provenance of all tensors of one forward pass.

    Args:
        own: the model's parameters and buffers, which nobody made.
        arrival: gives the provenance of a tensor that came from outside.
    """

    def __init__(self, own: Iterable[Tensor], arrival: Callable[[Tensor], Provenance]) -> None:
        self._own = list(own)
        self._own_ids = set(map(id, self._own))
        self._arrival = arrival
        self._known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._clock = 0

    def own(self, tensor: Tensor) -> None:
        """Takes one more tensor for the model's own."""
        if id(tensor) not in self._own_ids:
            self._own.append(tensor)
            self._own_ids.add(id(tensor))

    def __getitem__(self, tensor: Tensor) -> Provenance:
        """Who made the tensor's entries."""
        if id(tensor) in self._own_ids or isinstance(tensor, nn.Parameter):
            return NOTHING
        found, time = self._known.get(tensor, (None, -1))
        base = tensor._base
        if base is not None:
            whole, changed = self._known.get(base, (NOTHING, -1))
            if changed > time:  # written to since the view was taken
                self[tensor] = found = _part(whole, base, tensor)
        if found is None:
            is_own = base is not None and id(base) in self._own_ids
            self[tensor] = found = self._arrival(tensor) if carries(tensor) and not is_own else NOTHING
        return found

    def __contains__(self, tensor: Tensor) -> bool:
        """Whether the tensor has been seen."""
        return id(tensor) in self._own_ids or tensor in self._known

    def __setitem__(self, tensor: Tensor, provenance: Provenance) -> None:
        """Says who made a tensor that is new."""
        if id(tensor) not in self._own_ids:
            self._clock += 1
            self._known[tensor] = (provenance, self._clock)

    def overwrite(self, tensor: Tensor, provenance: Provenance) -> None:
        """Says who made a tensor's new entries, after a write in place; its base has them, too."""
        base = tensor._base
        if base is not None and base.numel():
            whole = self[base]
            if whole or provenance:
                self[base] = _with_part(whole, base, tensor, provenance)
        self[tensor] = provenance

    def write(self, target: Tensor, index: Any, value: Any) -> None:
        """Follows ``target[index] = value``."""
        before = self[target]
        new = self[value] if isinstance(value, Tensor) else NOTHING
        if not before and not new:
            return
        index = pv.map_tensors(index, lambda tensor: tensor.cpu())
        planes = []
        for level in range(max(len(before.planes), len(new.planes))):
            canvas = _level(before, level).expand(target.shape).clone()
            labels = _level(new, level)
            canvas[index] = labels.expand(value.shape) if isinstance(value, Tensor) else labels
            planes.append(pv.compress(canvas))
        self.overwrite(target, _provenance(planes, before.opaque | new.opaque))


def _level(provenance: Provenance, level: int) -> Tensor:
    return provenance.planes[level] if level < len(provenance.planes) else torch.tensor(-1)


def _provenance(planes: Sequence[Tensor], opaque: frozenset[int]) -> Provenance:
    return Provenance(tuple(plane for plane in planes if bool((plane >= 0).any())), opaque)


def _canvas(plane: Tensor, base: Tensor) -> Tensor:
    """Labels laid out as the base is in memory."""
    return torch.empty_strided(base.shape, base.stride(), dtype=torch.long).copy_(plane.expand(base.shape))


def _window(canvas: Tensor, base: Tensor, view: Tensor) -> Tensor:
    """The part of the base's labels that a view of it covers."""
    return canvas.as_strided(view.shape, view.stride(), int(view.storage_offset() - base.storage_offset()))


def _part(whole: Provenance, base: Tensor, view: Tensor) -> Provenance:
    planes = [pv.compress(_window(_canvas(plane, base), base, view)) for plane in whole.planes]
    return _provenance(planes, whole.opaque)


def _with_part(whole: Provenance, base: Tensor, view: Tensor, part: Provenance) -> Provenance:
    planes = []
    for level in range(max(len(whole.planes), len(part.planes))):
        canvas = _canvas(_level(whole, level), base)
        _window(canvas, base, view).copy_(_level(part, level).expand(view.shape))
        planes.append(pv.compress(canvas))
    return _provenance(planes, whole.opaque | part.opaque)
