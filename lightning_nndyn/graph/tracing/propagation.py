"""What operations do to provenance, without loss where that can be told: the rules of data-flow graphs.

`provenance.propagate` holds the rules of the chain, on which recorded signatures stand and which so do not
change. Those here go further: products of activations keep the head in which a channel is mixed, `einsum` and
padding are followed, indices and masks carry nothing on, and what hides its layout says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lightning_nndyn.graph.tracing import origins as pv
from lightning_nndyn.graph.tracing.origins import NOTHING, Provenance

Lookup: TypeAlias = Callable[[Tensor], Provenance]
_Inputs: TypeAlias = Sequence[tuple[Tensor, Provenance]]

_FRESH = frozenset(
    """zeros_like ones_like full_like empty_like rand_like randn_like randint_like new_zeros new_ones new_full
    new_empty new_tensor zero_ fill_ normal_ uniform_ bernoulli_ random_ exponential_ one_hot""".split()
)
_MIXING = frozenset(
    """tensordot inner outer ger kron cdist cross dot mv vdot vecdot chain_matmul multi_dot as_strided sort
    msort topk kthvalue mode stft istft cosine_similarity pairwise_distance grid_sample bilinear cov corrcoef
    matrix_exp matrix_power inverse pinverse det logdet trace cross_entropy nll_loss""".split()
)
_MIXING_PREFIXES = ("fft_", "linalg_")
_TURNS = frozenset("transpose permute t movedim moveaxis swapaxes swapdims adjoint unsqueeze".split())
_RESHAPES = frozenset("view reshape flatten unflatten view_as reshape_as ravel _unsafe_view squeeze".split())
_EXPANSIONS = frozenset("expand expand_as broadcast_to".split())
_JOINS = frozenset("cat concat concatenate stack".split())
_PRODUCTS = {"matmul": 0, "__matmul__": 0, "bmm": 0, "mm": 0, "baddbmm": 1, "addmm": 1, "addbmm": 1}
_PACKINGS = frozenset("_pack_padded_sequence _pad_packed_sequence".split())
_SPLIT_LIMIT = 256  # entries along an axis that vanishes, up to which the others keep their place
_WORK_LIMIT = 1 << 24


def carry(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], out: Any, lookup: Lookup
) -> list[Provenance]:
    """The provenance of each tensor in ``out = func(*args, **kwargs)``.

    Takes and returns what `provenance.propagate` does. Integers, booleans and fresh tensors come from
    nowhere.
    """
    outputs = list(pv.tensors_in(out))
    name = getattr(func, "__name__", "")
    if name == "copy_":
        args = args[1:]
    inputs = [(tensor, lookup(tensor)) for tensor in pv.tensors_in((args, kwargs))]
    inputs = [(tensor, found) for tensor, found in inputs if found]
    if not inputs or name in _FRESH:
        return [NOTHING] * len(outputs)
    found = _follow(func, name, args, kwargs, outputs, inputs, lookup)
    return [p if carries(t) else NOTHING for t, p in zip(outputs, found, strict=True)]


def carries(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers that a layer can have made: no index, no mask."""
    return tensor.is_floating_point() or tensor.is_complex()


def opaque(inputs: _Inputs) -> Provenance:
    """The same sources, their layout lost."""
    return Provenance((), frozenset[int]().union(*(found.sources for _, found in inputs)))


def blend(inputs: _Inputs, output: Tensor) -> Provenance:
    """Entry-by-entry operations: a plane stays where the output's shape fits it."""
    lost: set[int] = set()
    planes: list[Tensor] = []
    for _, found in inputs:
        lost |= found.opaque
        for plane in found.planes:
            fitted = pv.fit(plane, output)
            if fitted is None:
                lost |= pv.makers(plane)
            else:
                planes.append(fitted)
    return Provenance(tuple(distinct(planes) if len(inputs) > 1 else planes), frozenset(lost))


def distinct(planes: Iterable[Tensor]) -> Iterator[Tensor]:
    """Each plane once."""
    return iter({(tuple(plane.shape), plane.numpy().tobytes()): plane for plane in planes}.values())


def _follow(
    func: Callable[..., Any],
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    outputs: Sequence[Tensor],
    inputs: _Inputs,
    lookup: Lookup,
) -> list[Provenance]:
    if name == "__get__" and outputs:
        name, func = pv.property_movement(inputs[0][0], outputs[0]) or (name, func)
    if name in _MIXING or name.startswith(_MIXING_PREFIXES):
        return [opaque(inputs)] * len(outputs)
    if (
        name in pv.MOVEMENTS
        or name in _RESHAPES
        or name == "unfold"
        or (name == "pad" and _is_constant(args, kwargs))
    ):
        return _moved(func, name, args, kwargs, outputs, inputs, lookup)
    if name in pv.REDUCTIONS and not (len(args) > 1 and isinstance(args[1], Tensor)):
        inputs = [(t, _reduced(name, p, t, args, kwargs, outputs[0])) for t, p in inputs]
    elif name in _PRODUCTS:
        inputs = _multiplied(args[_PRODUCTS[name] :], lookup) + inputs_of(args[: _PRODUCTS[name]], lookup)
    elif name == "__rmatmul__":
        inputs = _multiplied((args[1], args[0]), lookup)
    elif name == "einsum":
        inputs = _einsum(args, inputs, lookup)
    elif name == "scaled_dot_product_attention":
        inputs = _attended(args, kwargs, inputs, outputs[0], lookup)
    elif name == "glu":
        inputs = _gated(args, kwargs, lookup)
    elif name in _PACKINGS:
        inputs = [(t, _last_axis(p, outputs[0])) for t, p in inputs]
    return [blend(inputs, output) for output in outputs]


def inputs_of(tree: Any, lookup: Lookup) -> list[tuple[Tensor, Provenance]]:
    """The tensors of nested lists with what made them, those that something made."""
    pairs = [(tensor, lookup(tensor)) for tensor in pv.tensors_in(tree)]
    return [(tensor, found) for tensor, found in pairs if found]


# -- operations that only move entries


def _moved(
    func: Callable[..., Any],
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    outputs: Sequence[Tensor],
    inputs: _Inputs,
    lookup: Lookup,
) -> list[Provenance]:
    (first, found), lost = inputs[0], opaque([(t, Provenance((), p.opaque)) for t, p in inputs]).opaque
    if name in _EXPANSIONS:
        return [blend(inputs, outputs[0])]
    if name in _RESHAPES:
        if not first.numel() or first.numel() != outputs[0].numel():
            return [opaque(inputs)] * len(outputs)
        planes = [reshaped(plane, first.shape, outputs[0].shape) for plane in found.planes]
        return [Provenance(tuple(planes), lost)]
    if name in _TURNS:
        return [Provenance(tuple(func(plane, *args[1:], **kwargs) for plane in found.planes), lost)]
    if name == "pad":
        args, kwargs = [first, kwargs.get("pad", args[1] if len(args) > 1 else ())], {"value": -1}
    depth = max(len(p.planes) for _, p in inputs)
    moved: list[list[Tensor]] = [[] for _ in outputs]
    for level in range(depth):
        arrange = _Labels(level, inputs, lookup, _joined_axis(name, first, args, kwargs))
        arranged = _run(func, pv.map_tensors(args, arrange), pv.map_tensors(kwargs, arrange))
        if arranged is None:
            return [opaque(inputs)] * len(outputs)
        for planes, plane in zip(moved, arranged, strict=True):
            plane = pv.compress(plane)
            if bool((plane >= 0).any()):
                planes.append(plane)
    return [Provenance(tuple(planes), lost) for planes in moved]


def _run(func: Callable[..., Any], args: Any, kwargs: Any) -> list[Tensor] | None:
    """Applies a movement to labels; None where it refuses them."""
    refusals = (RuntimeError, TypeError, NotImplementedError, IndexError)
    try:
        return list(pv.tensors_in(func(*args, **kwargs)))
    except refusals:
        pass
    try:  # some kernels know no integers; they fill with zeros
        args, kwargs = (pv.map_tensors(tree, lambda label: label.double() + 1) for tree in (args, kwargs))
        return [moved.long() - 1 for moved in pv.tensors_in(func(*args, **kwargs))]
    except refusals:
        return None


class _Labels:
    """Puts labels in the place of tensors: in a join only along the axes on which some tensor's differ."""

    def __init__(self, level: int, inputs: _Inputs, lookup: Lookup, joined: int | None) -> None:
        self._level, self._lookup = level, lookup
        self._spread: set[int] | None = None
        if joined is not None:
            planes = [plane for _, found in inputs for plane in found.planes[level : level + 1]]
            self._spread = {d for plane in planes for d in range(plane.dim()) if plane.shape[d] > 1} | {
                joined
            }

    def __call__(self, tensor: Tensor) -> Tensor:
        if not carries(tensor):
            return tensor.cpu()  # an index
        planes = self._lookup(tensor).planes
        plane = planes[self._level] if self._level < len(planes) else torch.tensor(-1)
        if self._spread is None or tensor.numel() == 0:
            return plane.expand(tensor.shape)
        return plane.expand([s if d in self._spread else 1 for d, s in enumerate(tensor.shape)])


def reshaped(plane: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """The plane of a tensor that was reshaped, written out only along the axes that labels differ on."""
    spread, shape = [], []
    for old, new in _axis_groups(tuple(before), tuple(after)):
        varies = any(plane.shape[axis] > 1 for axis in old)
        spread += [before[axis] if varies else 1 for axis in old]
        shape += [after[axis] if varies else 1 for axis in new]
    return pv.compress(plane.expand(spread).reshape(shape))


def _axis_groups(before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Runs of axes of two shapes that hold the same entries."""
    i = j = 0
    while i < len(before) or j < len(after):
        old, new = [], []
        have, want = 1, 1
        if i < len(before):
            old, have, i = [i], before[i], i + 1
        if j < len(after):
            new, want, j = [j], after[j], j + 1
        while have != want:
            if (have < want and i < len(before)) or j == len(after):
                old.append(i)
                have, i = have * before[i], i + 1
            else:
                new.append(j)
                want, j = want * after[j], j + 1
        yield old, new


def _joined_axis(name: str, first: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    """The axis along which tensors are joined; None if they are not."""
    if name not in _JOINS:
        return None
    axis = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else 0))
    return axis % (first.dim() + (name == "stack"))


def _is_constant(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return kwargs.get("mode", args[2] if len(args) > 2 else "constant") == "constant"


# -- operations under which axes vanish


def vanish(provenance: Provenance, axes: Sequence[int]) -> Provenance:
    """The planes with the given axes cut to size one: entries along them all reach what is left."""
    planes: list[Tensor] = []
    lost = set(provenance.opaque)
    for plane in provenance.planes:
        count = 1
        for axis in axes:
            count *= plane.shape[axis]
        if count == 1:
            planes.append(plane)
        elif count == plane.numel() or plane.numel() > _WORK_LIMIT:
            lost |= pv.makers(plane)
        else:
            shape = [1 if d in axes else s for d, s in enumerate(plane.shape)]
            rows = plane.movedim(tuple(axes), tuple(range(len(axes)))).reshape(count, -1)
            rows = torch.unique(rows, dim=0)
            if len(rows) > _SPLIT_LIMIT:
                lost |= pv.makers(plane)
            else:
                planes += [row.reshape(shape) for row in rows if bool((row >= 0).any())]
    return Provenance(tuple(planes), frozenset(lost))


def _reduced(
    name: str,
    provenance: Provenance,
    tensor: Tensor,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    out: Tensor,
) -> Provenance:
    place = 2 if name == "norm" else 1
    dims = kwargs.get("dim", kwargs.get("axis", args[place] if len(args) > place else None))
    if dims is None or isinstance(dims, (str, bool)):
        return Provenance((), provenance.sources)
    axes = sorted({d % tensor.dim() for d in ([dims] if isinstance(dims, int) else dims)})
    left = vanish(provenance, axes or list(range(tensor.dim())))
    if out.dim() == tensor.dim():
        return left
    keep = [d for d in range(tensor.dim()) if d not in axes]
    planes = tuple(plane.reshape([plane.shape[d] for d in keep]) for plane in left.planes)
    return Provenance(planes, left.opaque)


def _multiplied(operands: Sequence[Tensor], lookup: Lookup) -> list[tuple[Tensor, Provenance]]:
    """Products of activations: what varies along the contracted axis is mixed there."""
    result = []
    for tensor, axis in zip(operands, (-1, -2), strict=False):
        found = lookup(tensor)
        if tensor.dim() < 2:
            found = Provenance((), found.sources)
        elif found:
            found = vanish(found, [axis % tensor.dim()])
        result.append((tensor, found))
    return result


def _attended(
    args: Sequence[Any], kwargs: Mapping[str, Any], inputs: _Inputs, out: Tensor, lookup: Lookup
) -> list[tuple[Tensor, Provenance]]:
    """Values stay in their channels; queries and keys reach all of their head."""
    named = dict(zip(("query", "key", "value"), args, strict=False), **kwargs)
    query, key, value = (named[part] for part in ("query", "key", "value"))
    axes = query.dim()
    known = [
        (query, vanish(lookup(query), [axes - 1])),
        (key, vanish(lookup(key), [axes - 2, axes - 1])),
        (value, vanish(lookup(value), [axes - 2])),
    ]
    others = [(t, Provenance((), p.sources)) for t, p in inputs if all(t is not part for part, _ in known)]
    return [(tensor, _repeated(found, out)) for tensor, found in known] + others


def _repeated(provenance: Provenance, out: Tensor) -> Provenance:
    """Grouped-query attention: several query heads share one head of keys and values."""
    planes = []
    for plane in provenance.planes:
        if plane.dim() > 2 and 1 < plane.shape[-3] < out.shape[-3]:
            plane = plane.repeat_interleave(out.shape[-3] // plane.shape[-3], -3)
        planes.append(plane)
    return Provenance(tuple(planes), provenance.opaque)


def _einsum(args: Sequence[Any], inputs: _Inputs, lookup: Lookup) -> list[tuple[Tensor, Provenance]]:
    """Products in Einstein's notation, written with letters alone; others lose their layout."""
    lost = [(tensor, Provenance((), found.sources)) for tensor, found in inputs]
    if not isinstance(args[0], str) or "." in args[0]:
        return lost
    left, arrow, right = args[0].replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        right = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    operands = args[1] if isinstance(args[1], (list, tuple)) else args[1:]
    if any(len(set(term)) < len(term) for term in terms):
        return lost
    return [
        (
            tensor,
            _arranged(vanish(lookup(tensor), [i for i, c in enumerate(term) if c not in right]), term, right),
        )
        for tensor, term in zip(operands, terms, strict=True)
    ]


def _arranged(provenance: Provenance, term: str, right: str) -> Provenance:
    """Planes with axes named by ``term``, brought into the order of ``right``."""
    order = [term.index(c) for c in right if c in term]
    planes = []
    for plane in provenance.planes:
        kept = plane.permute(*order, *(i for i in range(plane.dim()) if i not in order))
        sizes = iter(kept.shape)
        planes.append(kept.reshape([next(sizes) if c in term else 1 for c in right]))
    return Provenance(tuple(planes), provenance.opaque)


def _gated(args: Sequence[Any], kwargs: Mapping[str, Any], lookup: Lookup) -> list[tuple[Tensor, Provenance]]:
    """Gated linear units: one half of the channels times a function of the other."""
    tensor = args[0] if args else kwargs["input"]
    axis = kwargs.get("dim", args[1] if len(args) > 1 else -1) % tensor.dim()
    found, half = lookup(tensor), tensor.shape[axis] // 2
    planes: list[Tensor] = []
    for plane in found.planes:
        planes += [plane] if plane.shape[axis] == 1 else plane.split(half, axis)
    return [(tensor, Provenance(tuple(planes), found.opaque))]


def _last_axis(provenance: Provenance, out: Tensor) -> Provenance:
    """Sequences packed and unpacked: channels stay on the last axis, all else may move."""
    planes, lost = [], set(provenance.opaque)
    for plane in provenance.planes:
        if plane.numel() == plane.shape[-1]:
            planes.append(plane.reshape((1,) * (out.dim() - 1) + (-1,)))
        else:
            lost |= pv.makers(plane)
    return Provenance(tuple(planes), frozenset(lost))
