"""Weights that are sharded over processes (FSDP, tensor parallelism, ZeRO), read one at a time.

No process ever holds the whole model. A weight is gathered only if its shards cannot be used as they are, and
each process then keeps its own rows of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn

from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.weights import current_weight, on_float64_device

# Within `shapes_only` the sharded weights that were read, otherwise None.
_read_by_shape: list[ShardedWeight] | None = None


@contextmanager
def shapes_only() -> Iterator[list[ShardedWeight]]:
    """Within it a `WeightReader` of a sharded weight returns a tensor of its shape, without communication.

    Yields:
        A list to which every sharded weight that is read is appended.
    """
    global _read_by_shape
    before, _read_by_shape = _read_by_shape, []
    try:
        yield _read_by_shape
    finally:
        _read_by_shape = before


class ShardedWeight(Protocol):
    """One weight that is sharded over processes."""

    @property
    def shape(self) -> Sequence[int]:
        """Shape of the whole weight."""

    def like(self) -> Tensor:
        """A tensor of any shape, with the dtype and device of what `gather` returns."""

    def gather(self) -> Tensor:
        """The whole weight, on every process. A collective operation."""


@dataclass(frozen=True)
class WeightReader:
    """Returns a module's whole current weight when called; a collective operation if the weight is sharded.

    Attributes:
        modules: the model's modules by their plain names, kept up to date by whoever made the reader.
        owner: the name of the module.
        attribute: the weight's name in it.
        flat: this process's shard, where FSDP keeps the weight in a flat parameter.
        distributed: the weight's `DTensor`, which FSDP2 replaces by the whole weight during a pass.
    """

    modules: Mapping[str, nn.Module]
    owner: str
    attribute: str
    flat: FsdpFlatWeight | None = None
    distributed: Tensor | None = None

    def __call__(self) -> Tensor:
        """The weight; within `shapes_only` a tensor of its shape, dtype and device."""
        sharded = self.sharded()
        if sharded is None:
            return on_float64_device(current_weight(self.modules[self.owner], self.attribute))
        if _read_by_shape is None:
            return sharded.gather()
        _read_by_shape.append(sharded)
        like = sharded.like()
        # A single number, expanded: the shape without its memory.
        return torch.zeros((), dtype=like.dtype, device=like.device).expand(tuple(sharded.shape))

    def sharded(self) -> ShardedWeight | None:
        """The weight as a `ShardedWeight`; None if it is not sharded."""
        if self.flat is not None and self.flat.is_sharded:
            return self.flat
        if self.distributed is not None:
            return DTensorWeight(self.distributed)
        parameter = self.modules[self.owner]._parameters.get(self.attribute)
        return Zero3Weight(parameter) if hasattr(parameter, "ds_shape") else None


class WeightReaders:
    """Makes readers of a model's weights. To be constructed before a forward pass.

    Args:
        model: the model; where FSDP has wrapped it, the wrapper.
        modules: its modules by their plain names; readers look them up at each reading.
    """

    def __init__(self, model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        # FSDP2 leaves the outermost weights gathered after a pass without backward pass, such as validation.
        for module in model.modules():
            if hasattr(module, "set_reshard_after_forward"):
                module.reshard()  # type: ignore[operator]
        self._units = list(_fsdp_units(model))
        self._flat = {(id(owner), name): flat for unit in self._units for owner, name, flat in unit.weights}
        self._distributed = {
            (id(module), name): parameter
            for module in model.modules()
            for name, parameter in module._parameters.items()
            if is_distributed(parameter)
        }

    def reader(self, owner: str, attribute: str) -> WeightReader:
        """A reader of the attribute of the module of this name."""
        key = id(self._modules[owner]), attribute
        return WeightReader(self._modules, owner, attribute, self._flat.get(key), self._distributed.get(key))

    def on_unflatten(
        self, callback: Callable[[nn.Module, str, Tensor], None]
    ) -> list[torch.utils.hooks.RemovableHandle]:
        """Reports the tensors that FSDP puts in place of a flat parameter's weights before a module runs.

        Args:
            callback: called with the weight's module, its name in it and the tensor.

        Returns:
            The hooks, to be removed.
        """
        return [
            unit.module.register_forward_pre_hook(partial(_report, unit, callback)) for unit in self._units
        ]


def _report(unit: FsdpUnit, callback: Callable[[nn.Module, str, Tensor], None], *_: Any) -> None:
    for module, name, _flat in unit.weights:
        callback(module, name, getattr(module, name))


# -- FSDP2 and tensor parallelism ----------------------------------------------------------------------------


def is_distributed(tensor: Any) -> bool:
    """Whether a tensor is a `DTensor`. Without the module that defines them imported, none is."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


@dataclass(frozen=True)
class DTensorWeight:
    """A weight that is a `DTensor`."""

    tensor: Any

    @property
    def shape(self) -> Sequence[int]:
        """Shape of the whole weight."""
        return tuple(self.tensor.shape)

    def like(self) -> Tensor:
        """This process's shard."""
        return self.tensor.detach().to_local()

    def gather(self) -> Tensor:
        """The whole weight, on every process."""
        return self.tensor.detach().full_tensor()

    @property
    def is_sharded_by_rows(self) -> bool:
        """Whether every process has the rows that `shard_rows` assigns to its rank."""
        mesh, placements = self.tensor.device_mesh, self.tensor.placements
        if len(placements) != 1 or not placements[0].is_shard(0):
            return False
        return bool(mesh.mesh.flatten().tolist() == list(range(distributed.get_world_size())))


def refuse_tensor_parallel(weight: Tensor, name: str) -> None:
    """Refuses a layer under tensor parallelism, where each process computes some of the channels only.

    Raises:
        TracingError: if the weight is a `DTensor` while the layer computes.
    """
    if is_distributed(weight):
        raise TracingError(
            f"layer {name!r} is split by tensor parallelism, which hides which channels go where; name the "
            f"chain's layers yourself: layers=['first', ..., 'last']"
        )


def local_rows(read: Callable[[], Tensor], rows: range) -> Tensor | None:
    """These rows of a weight, if they are exactly this process's shard; None otherwise."""
    weight = read.sharded() if isinstance(read, WeightReader) else None
    if not isinstance(weight, DTensorWeight) or not weight.is_sharded_by_rows:
        return None
    shard = shard_rows(weight.shape[0], distributed.get_rank(), distributed.get_world_size())
    return weight.like() if rows == shard else None


def shard_rows(count: int, rank: int, size: int) -> range:
    """The rows of process ``rank`` of ``size``, as `DTensor` shards them: even shares, the last smaller."""
    share = -(-count // size)
    return range(min(count, rank * share), min(count, (rank + 1) * share))


# -- FSDP's first version, with flat parameters --------------------------------------------------------------


@dataclass(frozen=True)
class FsdpFlatWeight:
    """A weight in a flat parameter of FSDP, of which this process has a shard.

    Attributes:
        handle: FSDP's handle of the flat parameter.
        index: index of the weight in the flat parameter.
    """

    handle: Any
    index: int

    @property
    def is_sharded(self) -> bool:
        """False where every process has the whole parameter (``NO_SHARD``)."""
        return bool(self.handle.uses_sharded_strategy)

    @property
    def shape(self) -> Sequence[int]:
        """Shape of the whole weight."""
        return tuple(self.handle.flat_param._shapes[self.index])

    def like(self) -> Tensor:
        """An empty tensor with the dtype and device of the gathered weight."""
        shard = self.handle.flat_param
        shard = getattr(shard, "_local_shard", shard)
        return torch.empty(0, dtype=shard.dtype, device=self.handle.device)

    def local_shard(self) -> Tensor:
        """This process's entries of the weight, flattened, in full precision; empty if it has none."""
        flat = self.handle.flat_param
        info = flat._shard_param_infos[self.index]
        shard: Tensor = getattr(flat, "_local_shard", flat).detach()
        return shard.narrow(0, info.offset_in_shard, info.numel_in_shard) if info.in_shard else shard[:0]

    def gather(self) -> Tensor:
        """The whole weight, on every process of the handle's group."""
        flat, shard = self.handle.flat_param, self.local_shard()
        entries = self.like().new_zeros(flat._numels[self.index])
        if len(shard):
            first = flat._shard_param_infos[self.index].intra_param_start_idx
            entries[first : first + len(shard)] = shard
        distributed.all_reduce(entries, group=self.handle.process_group)
        if flat._contiguities[self.index]:
            return entries.view(self.shape)
        return entries.as_strided(self.shape, flat._strides[self.index])


@dataclass(frozen=True)
class FsdpUnit:
    """A module whose weights, and those of its submodules, are in one flat parameter.

    Attributes:
        module: the module that FSDP has wrapped.
        weights: for each weight its module, its name there, and its entries of the flat parameter.
    """

    module: nn.Module
    weights: Sequence[tuple[nn.Module, str, FsdpFlatWeight]]


def _fsdp_units(model: nn.Module) -> Iterator[FsdpUnit]:
    for wrapper in model.modules():
        handle = getattr(wrapper, "_handle", None)
        flat = getattr(handle, "flat_param", None)
        if flat is None:
            continue
        weights = [
            (owner, name, FsdpFlatWeight(handle, i)) for i, (name, owner, _) in enumerate(flat._param_infos)
        ]
        by_name = {(id(owner), name): weight for owner, name, weight in weights}
        tied = [
            (owner, name, by_name[id(first_owner), first])
            for name, owner, _, first, first_owner, _ in flat._shared_param_infos
        ]
        yield FsdpUnit(wrapper.module, weights + tied)  # type: ignore[arg-type]


def is_flat_parameter(parameter: str) -> bool:
    """Whether a parameter of this name is a flat one, which holds several weights."""
    return parameter.rpartition(".")[2] == "_flat_param"


# -- DeepSpeed's ZeRO, stage 3 -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Zero3Weight:
    """A parameter that DeepSpeed has partitioned."""

    parameter: Any

    @property
    def shape(self) -> Sequence[int]:
        """Shape of the whole weight."""
        return tuple(self.parameter.ds_shape)

    def like(self) -> Tensor:
        """The parameter itself, which is empty between passes."""
        return self.parameter.detach()

    def gather(self) -> Tensor:
        """The whole weight, on every process."""
        import deepspeed

        with deepspeed.zero.GatheredParameters([self.parameter]):
            return self.parameter.detach().clone()
