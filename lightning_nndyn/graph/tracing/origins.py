"""Which channel of which layer made each entry of a tensor, carried through the operations of a forward pass.

An entry's maker is a *label*, ``call << 32 | channel``, or -1. A *plane* is an int64 tensor of labels with
the tensor's number of axes, of size one along the axes on which the maker does not depend: a convolution's
output has one plane [1, C, 1, 1]. A sum of two tensors has the planes of both. Operations that only move
entries (reshape, cat, slices, ...) are applied to the planes themselves, so their effect on the layout is
exact whatever they do. Where the layout is lost, the makers stay known: they are then *opaque* sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_CHANNEL_BITS = 32
_CHANNEL_MASK = (1 << _CHANNEL_BITS) - 1

MOVEMENTS = frozenset(
    """__getitem__ broadcast_to cat chunk concat concatenate dsplit dstack expand expand_as flatten flip
    gather hsplit hstack index_select moveaxis movedim narrow permute pixel_shuffle pixel_unshuffle
    ravel repeat repeat_interleave reshape reshape_as roll rot90 select split split_with_sizes squeeze
    stack swapaxes swapdims t take_along_dim tensor_split tile transpose unbind unflatten unsafe_chunk
    unsafe_split unsqueeze view view_as vsplit vstack channel_shuffle""".split()
)
REDUCTIONS = frozenset("mean sum amax amin max min logsumexp std var median nanmean norm prod".split())
PRODUCTS = frozenset("matmul bmm mm __matmul__ __rmatmul__".split())


@dataclass(frozen=True)
class Provenance:
    """The makers of a tensor's entries: planes of labels, and sources whose layout is lost."""

    planes: tuple[Tensor, ...] = ()
    opaque: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.planes or self.opaque)

    @property
    def sources(self) -> frozenset[int]:
        """The calls that made some entry."""
        return self.opaque.union(*map(makers, self.planes))


NOTHING = Provenance()


def output_of(call: int, channels: int, axis: int, ndim: int) -> Provenance:
    """The provenance of a layer call's output, with its channels along ``axis`` of ``ndim`` axes."""
    shape = [1] * ndim
    shape[axis] = channels
    return Provenance((labels(call, channels).view(shape),))


def labels(call: int, channels: int) -> Tensor:
    """The labels of a call's channels, LongTensor[channels]."""
    return torch.arange(channels) + (call << _CHANNEL_BITS)


def makers(plane: Tensor) -> frozenset[int]:
    """The calls whose labels a plane holds."""
    return frozenset(torch.unique(plane[plane >= 0] >> _CHANNEL_BITS).tolist())


def channels_of(call: int, vector: Tensor) -> Tensor:
    """The channel of ``call`` that made each position of a label vector, -1 where another call did."""
    return torch.where(vector >> _CHANNEL_BITS == call, vector & _CHANNEL_MASK, -1)


def along(provenance: Provenance, axis: int, size: int) -> tuple[list[Tensor], frozenset[int]]:
    """Reads the planes along one axis.

    Returns:
        One label vector [size] for each plane that varies along that axis alone, and the sources of the
        others.
    """
    vectors, opaque = [], set(provenance.opaque)
    for plane in provenance.planes:
        if plane.numel() == plane.shape[axis]:
            vectors.append(plane.reshape(-1).expand(size))
        else:
            opaque |= makers(plane)
    return vectors, frozenset(opaque)


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from tensors_in(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from tensors_in(value)


def propagate(
    func: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    out: Any,
    lookup: Callable[[Tensor], Provenance],
) -> list[Provenance]:
    """The provenance of each tensor in ``out = func(*args, **kwargs)``.

    Args:
        func: the function that was called.
        args: its positional arguments.
        kwargs: its keyword arguments.
        out: what it returned.
        lookup: gives the provenance of an argument.

    Returns:
        One provenance for each of ``tensors_in(out)``.
    """
    outputs = list(tensors_in(out))
    inputs = [(tensor, lookup(tensor)) for tensor in tensors_in((args, kwargs))]
    inputs = [(tensor, provenance) for tensor, provenance in inputs if provenance]
    if not inputs:
        return [NOTHING] * len(outputs)
    name = getattr(func, "__name__", "")
    if name == "__get__" and outputs:
        name, func = property_movement(inputs[0][0], outputs[0]) or (name, func)
    opaque = frozenset[int]().union(*(provenance.opaque for _, provenance in inputs))
    if name in MOVEMENTS:
        # Planes have other strides than the tensor they describe: where it can be viewed, they may need a
        # copy.
        views: dict[str, Callable[..., Any]] = {"view": Tensor.reshape, "view_as": Tensor.reshape_as}
        func = views.get(name, func)
        moved = move(func, args, kwargs, lookup, len(outputs))
        if moved is not None:
            return [Provenance(planes, opaque) for planes in moved]
    elif name in REDUCTIONS:
        inputs = [(tensor, _reduce(provenance, tensor, args, kwargs)) for tensor, provenance in inputs]
    elif name in PRODUCTS:
        inputs = _contract(inputs, args, lookup)
    elif name == "scaled_dot_product_attention":
        value = args[2] if len(args) > 2 else kwargs["value"]
        inputs = [(t, p if t is value else Provenance((), p.sources)) for t, p in inputs]
    return [merge(inputs, output) for output in outputs]


def property_movement(before: Tensor, after: Tensor) -> tuple[str, Callable[..., Any]] | None:
    """The movement behind an attribute such as ``.T`` or ``.mT``, told by its strides; None for others."""
    same = after.shape == before.shape and after.stride() == before.stride()
    if same or before.dim() < 2:
        return None
    backwards = tuple(reversed(range(before.dim())))
    for axes in ((*backwards[:1:-1], before.dim() - 1, before.dim() - 2), backwards):
        moved = before.permute(axes)
        if (after.shape, after.stride()) == (moved.shape, moved.stride()):
            return "permute", lambda tensor, axes=axes: tensor.permute(axes)
    return None


def merge(inputs: Sequence[tuple[Tensor, Provenance]], output: Tensor) -> Provenance:
    """Entry-by-entry operations, pooling, normalisation: a plane stays where the output's shape fits it."""
    planes: list[Tensor] = []
    opaque: set[int] = set()
    for _, provenance in inputs:
        opaque |= provenance.opaque
        for plane in provenance.planes:
            fitted = fit(plane, output)
            if fitted is None:
                opaque |= makers(plane)
            elif not any(torch.equal(fitted, other) for other in planes):
                planes.append(fitted)
    return Provenance(tuple(planes), frozenset(opaque))


def fit(plane: Tensor, output: Tensor) -> Tensor | None:
    """The plane with the output's number of axes (broadcasting), or None where sizes differ."""
    if plane.dim() > output.dim():
        return None
    plane = plane.reshape((1,) * (output.dim() - plane.dim()) + tuple(plane.shape))
    fits = all(p in (1, o) for p, o in zip(plane.shape, output.shape, strict=True))
    return plane if fits else None


def move(
    func: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    lookup: Callable[[Tensor], Provenance],
    outputs: int,
) -> list[tuple[Tensor, ...]] | None:
    """Applies a moving operation to the planes of its arguments; None where it refuses labels."""
    depth = max(len(lookup(tensor).planes) for tensor in tensors_in((args, kwargs)))
    moved: list[list[Tensor]] = [[] for _ in range(outputs)]
    for level in range(depth):

        def substitute(tensor: Tensor, level: int = level) -> Tensor:
            if not tensor.is_floating_point():
                return tensor.cpu()  # an index
            planes = lookup(tensor).planes
            plane = planes[level] if level < len(planes) else torch.tensor(-1)
            return plane.expand(tensor.shape)

        try:
            out = func(*map_tensors(args, substitute), **map_tensors(kwargs, substitute))
        except (RuntimeError, TypeError, NotImplementedError):
            return None
        for planes, plane in zip(moved, tensors_in(out), strict=True):
            plane = compress(plane)
            if bool((plane >= 0).any()):
                planes.append(plane)
    return [tuple(planes) for planes in moved]


def write(target: Tensor, index: Any, value: Any, lookup: Callable[[Tensor], Provenance]) -> Provenance:
    """The provenance of ``target`` after ``target[index] = value``: what was there, and what came."""
    before = lookup(target)
    if not isinstance(value, Tensor) or not lookup(value):
        return before
    planes = list(before.planes)
    for plane in lookup(value).planes:
        canvas = torch.full(target.shape, -1)
        canvas[map_tensors(index, lambda tensor: tensor.cpu())] = plane.expand(value.shape)
        planes.append(compress(canvas))
    return Provenance(tuple(planes), before.opaque | lookup(value).opaque)


def compress(plane: Tensor) -> Tensor:
    """Cuts each axis along which the labels do not change to size one."""
    for axis in range(plane.dim()):
        if plane.stride(axis) == 0 and plane.shape[axis] > 1:
            plane = plane.narrow(axis, 0, 1)
    for axis in range(plane.dim()):
        if plane.shape[axis] > 1:
            first = plane.narrow(axis, 0, 1)
            if bool((plane == first).all()):
                plane = first
    return plane.clone()


def _reduce(
    provenance: Provenance, tensor: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Provenance:
    """Planes under a reduction: kept where they do not vary along the axes that vanish."""
    dims = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
    if dims is None or isinstance(dims, (str, Tensor)):
        return Provenance((), provenance.sources)
    dims = {d % tensor.dim() for d in ([dims] if isinstance(dims, int) else dims)}
    keep = bool(kwargs.get("keepdim", args[2] if len(args) > 2 else False))
    planes, opaque = [], set(provenance.opaque)
    for plane in provenance.planes:
        if all(plane.shape[d] == 1 for d in dims):
            shape = [s for d, s in enumerate(plane.shape) if keep or d not in dims]
            planes.append(plane.reshape(shape))
        else:
            opaque |= makers(plane)
    return Provenance(tuple(planes), frozenset(opaque))


def _contract(
    inputs: Sequence[tuple[Tensor, Provenance]], args: Sequence[Any], lookup: Callable[[Tensor], Provenance]
) -> list[tuple[Tensor, Provenance]]:
    """Products of activations: a plane that varies along the contracted axis loses its layout."""
    contracted = {id(args[0]): -1, id(args[-1]): -2}
    result = []
    for tensor, provenance in inputs:
        axis = contracted.get(id(tensor), -1)
        kept = tuple(p for p in provenance.planes if p.dim() >= 2 and p.shape[axis] == 1)
        lost = (makers(p) for p in provenance.planes if not any(p is k for k in kept))
        result.append((tensor, Provenance(kept, provenance.opaque.union(*lost))))
    return result


def map_tensors(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Replaces every tensor in nested lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: map_tensors(value, change) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_tensors(value, change) for value in tree)
    return tree
