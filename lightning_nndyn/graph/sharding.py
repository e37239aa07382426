"""Weights that are spread over processes (FSDP, tensor parallelism, ZeRO), read one at a time.

No process holds the whole model for it: a weight is put together only where its parts say nothing on their
own, and each process keeps its rows of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn

from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.weights import current_weight, readable

_found: list[ShardedWeight] | None = None


@contextmanager
def shapes_only() -> Iterator[list[ShardedWeight]]:
    """Within it a `WeightReader` of a sharded weight returns a tensor of its shape, without communication.

    Yields:
        The weights that were read and are spread, as they are read.
    """
    global _found
    before, _found = _found, []
    try:
        yield _found
    finally:
        _found = before


class ShardedWeight(Protocol):
    """One weight that is spread over processes."""

    @property
    def shape(self) -> Sequence[int]:
        """Of the whole weight."""

    def like(self) -> Tensor:
        """Any tensor of its dtype, on the device where `gather` puts it."""

    def gather(self) -> Tensor:
        """All of it, put together on every process: all of them must call this."""


@dataclass(frozen=True)
class WeightReader:
    """Reads a module's weight as it is at the moment, and whole, even if it is spread over processes.

    Calling it is a collective operation then.

    Attributes:
        module: the module.
        attribute: the weight's name in it.
        flat: this process's part of it, where FSDP keeps it in a flat parameter.
        distributed: the `DTensor` that it is between passes, where FSDP2 puts the whole one in its place.
    """

    module: nn.Module
    attribute: str
    flat: FsdpFlatWeight | None = None
    distributed: Tensor | None = None

    def __call__(self) -> Tensor:
        """The weight; under `shapes_only` something of its shape, dtype and device will do."""
        spread = self.sharded()
        if spread is None:
            return readable(current_weight(self.module, self.attribute))
        if _found is None:
            return spread.gather()
        _found.append(spread)
        like = spread.like()  # a tensor without memory of its own
        return torch.zeros((), dtype=like.dtype, device=like.device).expand(tuple(spread.shape))

    def sharded(self) -> ShardedWeight | None:
        """The weight as one that is spread over processes; None if it is not."""
        if self.flat is not None and self.flat.is_sharded:
            return self.flat
        if self.distributed is not None:
            return DTensorWeight(self.distributed)
        found = self.module._parameters.get(self.attribute)
        return Zero3Weight(found) if hasattr(found, "ds_shape") else None


class WeightReaders:
    """Makes readers of a model's weights.

    Made before a forward pass: FSDP2 leaves the outermost weights whole after a pass without a backward pass,
    such as validation, and is asked to spread them again.

    Args:
        model: the model; where FSDP has wrapped it, the wrapper.
    """

    def __init__(self, model: nn.Module) -> None:
        for module in model.modules():
            if hasattr(module, "set_reshard_after_forward"):
                module.reshard()  # type: ignore[operator]
        self._units = list(_fsdp_units(model))
        self._flat = {(id(module), name): part for unit in self._units for module, name, part in unit.weights}
        self._distributed = {
            (id(module), name): parameter
            for module in model.modules()
            for name, parameter in module._parameters.items()
            if is_distributed(parameter)
        }

    def reader(self, module: nn.Module, attribute: str) -> WeightReader:
        """A reader of ``module.attribute``."""
        place = id(module), attribute
        return WeightReader(module, attribute, self._flat.get(place), self._distributed.get(place))

    def on_unflatten(
        self, tell: Callable[[nn.Module, str, Tensor], None]
    ) -> list[torch.utils.hooks.RemovableHandle]:
        """Tells of the tensors that FSDP puts in the place of flat weights before a module runs.

        Args:
            tell: called with the weight's module, its name in it and the tensor.

        Returns:
            The hooks, to be removed.
        """
        return [unit.module.register_forward_pre_hook(partial(_tell, unit, tell)) for unit in self._units]


def _tell(unit: FsdpUnit, tell: Callable[[nn.Module, str, Tensor], None], *_: Any) -> None:
    for module, name, _part in unit.weights:
        tell(module, name, getattr(module, name))


# -- FSDP2 and tensor parallelism ----------------------------------------------------------------------------


def is_distributed(tensor: Any) -> bool:
    """Whether a tensor is a `DTensor`. Where nobody has imported those, nothing is one."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


@dataclass(frozen=True)
class DTensorWeight:
    """A weight that is a `DTensor`."""

    tensor: Any

    @property
    def shape(self) -> Sequence[int]:
        """Of the whole weight."""
        return tuple(self.tensor.shape)

    def like(self) -> Tensor:
        """This process's part of it."""
        return self.tensor.detach().to_local()

    def gather(self) -> Tensor:
        """All of it, on every process."""
        return self.tensor.detach().full_tensor()

    @property
    def is_sharded_by_rows(self) -> bool:
        """Whether process n of all has the n-th share of its rows, as `shard_rows` has it."""
        mesh, placements = self.tensor.device_mesh, self.tensor.placements
        if len(placements) != 1 or not placements[0].is_shard(0):
            return False
        return bool(mesh.mesh.flatten().tolist() == list(range(distributed.get_world_size())))


def refuse_tensor_parallel(weight: Tensor, name: str) -> None:
    """Refuses a product with a weight of tensor parallelism: each process sees some of the channels.

    Raises:
        TracingError: if the weight is a `DTensor` while it is used.
    """
    if is_distributed(weight):
        raise TracingError(
            f"layer {name!r} is split by tensor parallelism, which hides which channels go where; name the "
            f"chain's layers yourself: layers=['first', ..., 'last']"
        )


def local_rows(read: Callable[[], Tensor], rows: range) -> Tensor | None:
    """Some rows of a weight, if they lie on this process as they are; else None."""
    spread = read.sharded() if isinstance(read, WeightReader) else None
    if not isinstance(spread, DTensorWeight) or not spread.is_sharded_by_rows:
        return None
    mine = shard_rows(spread.shape[0], distributed.get_rank(), distributed.get_world_size())
    return spread.like() if rows == mine else None


def shard_rows(count: int, rank: int, size: int) -> range:
    """The rows of one of ``size`` processes, as `DTensor` deals them: even shares, the last ones smaller."""
    share = -(-count // size)
    return range(min(count, rank * share), min(count, (rank + 1) * share))


# -- FSDP's first version, with flat parameters --------------------------------------------------------------


@dataclass(frozen=True)
class FsdpFlatWeight:
    """A weight in one of FSDP's flat parameters, of which this process has a part.

    Attributes:
        handle: FSDP's, of the flat parameter.
        index: of the weight in it.
    """

    handle: Any
    index: int

    @property
    def is_sharded(self) -> bool:
        """False where every process has the whole parameter (``NO_SHARD``)."""
        return bool(self.handle.uses_sharded_strategy)

    @property
    def shape(self) -> Sequence[int]:
        """Of the whole weight."""
        return tuple(self.handle.flat_param._shapes[self.index])

    def like(self) -> Tensor:
        """Nothing, in full precision, where the processes compute."""
        shard = self.handle.flat_param
        shard = getattr(shard, "_local_shard", shard)
        return torch.empty(0, dtype=shard.dtype, device=self.handle.device)

    def here(self) -> Tensor:
        """This process's entries of it, flattened, in full precision; empty if it has none."""
        flat = self.handle.flat_param
        info = flat._shard_param_infos[self.index]
        shard: Tensor = getattr(flat, "_local_shard", flat).detach()
        return shard.narrow(0, info.offset_in_shard, info.numel_in_shard) if info.in_shard else shard[:0]

    def gather(self) -> Tensor:
        """All of it, on every process of the handle's group."""
        flat, here = self.handle.flat_param, self.here()
        entries = self.like().new_zeros(flat._numels[self.index])
        if len(here):
            first = flat._shard_param_infos[self.index].intra_param_start_idx
            entries[first : first + len(here)] = here
        distributed.all_reduce(entries, group=self.handle.process_group)
        if flat._contiguities[self.index]:
            return entries.view(self.shape)
        return entries.as_strided(self.shape, flat._strides[self.index])


@dataclass(frozen=True)
class FsdpUnit:
    """A module whose weights, and those of modules in it, are in one flat parameter.

    Attributes:
        module: the one that FSDP has wrapped.
        weights: whose they are, their names there, and where they are kept.
    """

    module: nn.Module
    weights: Sequence[tuple[nn.Module, str, FsdpFlatWeight]]


def _fsdp_units(model: nn.Module) -> Iterator[FsdpUnit]:
    for wrapper in model.modules():
        handle = getattr(wrapper, "_handle", None)
        flat = getattr(handle, "flat_param", None)
        if flat is None:
            continue
        own = [
            (owner, name, FsdpFlatWeight(handle, i)) for i, (name, owner, _) in enumerate(flat._param_infos)
        ]
        parts = {(id(owner), name): part for owner, name, part in own}
        tied = [
            (owner, name, parts[id(first_owner), first])
            for name, owner, _, first, first_owner, _ in flat._shared_param_infos
        ]
        yield FsdpUnit(wrapper.module, own + tied)  # type: ignore[arg-type]


def is_flat_parameter(parameter: str) -> bool:
    """Whether a parameter of this name is a flat one, of several weights."""
    return parameter.rpartition(".")[2] == "_flat_param"


# -- DeepSpeed's ZeRO, stage 3 -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Zero3Weight:
    """A parameter that DeepSpeed has partitioned."""

    parameter: Any

    @property
    def shape(self) -> Sequence[int]:
        """Of the whole weight."""
        return tuple(self.parameter.ds_shape)

    def like(self) -> Tensor:
        """Nothing, of the weight's dtype and device: a parameter at rest is empty."""
        return self.parameter.detach()

    def gather(self) -> Tensor:
        """All of it, on every process."""
        import deepspeed

        with deepspeed.zero.GatheredParameters([self.parameter]):
            return self.parameter.detach().clone()
