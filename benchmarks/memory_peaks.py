"""How much memory a piece of work takes: all that torch allocates on the CPU, temporaries included."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.profiler import ProfilerActivity, profile

from lightning_nndyn.graph.rolled import RolledGraph


@dataclass(frozen=True)
class Taken:
    """What a piece of work took, in bytes, on top of what was there before it.

    Attributes:
        result: what it returned.
        peak: at any moment.
        left: at its end, garbage aside.
    """

    result: Any
    peak: int
    left: int


def measured(work: Callable[[], Any]) -> Taken:
    """Does the work under torch's profiler, which hears of every allocation of the CPU's allocator."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = work()
        gc.collect()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), place, e.nbytes()) for place, e in enumerate(events) if is_memory(e))
    now = peak = 0
    for _, _, change in changes:
        now += change
        peak = max(peak, now)
    return Taken(result, peak, now)


def is_memory(event: Any) -> bool:
    return event.name() == "[memory]"


def weight_bytes(model: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def graph_bytes(graph: RolledGraph) -> int:
    """The edges' weights, each once, and the index tensors that say what they join."""
    tensors = [graph.distinct_weights]
    for weight in (shared.block.weight for shared in graph.shared_blocks):
        tensors += (
            [] if weight.wiring is None else [getattr(weight.wiring, n) for n in weight.wiring._TENSORS]
        )
    storages = {storage._cdata: storage for storage in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storage.nbytes() for storage in storages.values())


def solver_bytes(graph: RolledGraph) -> int:
    """The vectors over the nodes that the eigenvector is searched with: three times twelve."""
    return 36 * graph.num_nodes * graph.distinct_weights.element_size()
