"""Time and memory of one snapshot against the number of parameters, from LeNet to seven billion.

    python benchmarks/scale.py              # a table
    python benchmarks/scale.py --markdown   # what stands in docs/reference/cost.md
    python benchmarks/scale.py --write      # writes it there

One thread on the CPU, float32. What fits into some 6 GB is measured. Larger decoders are built on the `meta`
device: their graph is traced for real, and its blocks are counted; what a block costs to read and to multiply
by is measured on one layer of each shape, and added up over all blocks. The same sum stands beside what was
measured where both can be had.
"""

from __future__ import annotations

import argparse
import gc
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from decoders import DECODERS, Decoder, Sizes
from memory_peaks import graph_bytes, measured
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import lightning_nndyn as nd
from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.blocks import Block
from lightning_nndyn.graph.rolled import RolledGraph, SharedBlock
from lightning_nndyn.graph.tracing.tracer import LayerTracer, Topology
from lightning_nndyn.signature.reader import SnapshotReader

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cost.md"
MIB = 1 << 20
TOKENS = 64

FITS = ("decoder 124 M", "decoder 350 M")
IMAGES = {
    "lenet5": (128, 32),
    "alexnet": (128, 32),
    "vgg7": (32, 32),
    "resnet32": (32, 32),
    "resnet50": (8, 64),
}


def network(name: str, depth: int | None = None) -> tuple[nn.Module, Tensor]:
    """A model and a batch for it; a decoder with another depth than its own if that is given."""
    torch.manual_seed(0)
    if name in IMAGES:
        batch, size = IMAGES[name]
        return getattr(nd.models, name)(), torch.randn(batch, 3, size, size)
    sizes = DECODERS[name]
    if depth is not None:
        sizes = Sizes(**{**vars(sizes), "depth": depth})
    return Decoder(sizes), torch.zeros(1, TOKENS, dtype=torch.long)


# -- measuring -----------------------------------------------------------------------------------------------


@dataclass
class Row:
    name: str
    parameters: int
    topology: str
    how: str
    nodes: int
    edges: int
    trace: float
    first: float
    later: float
    graph: float  # bytes
    extra: float  # bytes
    step: float | None = None


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def best(work: Callable[[], Any], repetitions: int = 3) -> float:
    return min(timed(work)[1] for _ in range(repetitions))


def training_step(model: nn.Module, x: Tensor) -> None:
    """Forward, backward and a step of SGD."""
    out = model(x)
    loss = F.cross_entropy(out.flatten(0, -2), torch.zeros(out.shape[:-1], dtype=torch.long).flatten())
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.add_(parameter.grad, alpha=-0.01)
                parameter.grad = None


def trace(model: nn.Module, x: Tensor, topology: Topology) -> RolledGraph:
    tracer = LayerTracer(model, topology=topology)
    with torch.no_grad(), tracer:
        model(x)
    return tracer.graph()


def measure(name: str, topology: Topology) -> Row:
    """Everything of one network that fits."""
    model, x = network(name)
    training_step(model, x)
    step = timed(lambda: training_step(model, x))[1]
    gc.collect()
    model.eval()
    with torch.no_grad():
        forward, forward_peak = best(lambda: model(x)), measured(lambda: model(x)).peak
    built = measured(lambda: trace(model, x, topology))
    size = graph_bytes(built.result)
    taker = SnapshotReader(built.result, per_layer=True)
    extra = max(built.peak - size - forward_peak, measured(lambda: taker.read(0.0)).peak)
    del built, taker
    gc.collect()
    graph = trace(model, x, topology)
    traced = best(lambda: trace(model, x, topology))
    taker, first = SnapshotReader(graph, per_layer=True), 0.0
    first = timed(lambda: taker.read(0.0))[1]
    training_step(model, x)
    later = timed(lambda: taker.read(1.0))[1]
    count = sum(parameter.numel() for parameter in model.parameters())
    return Row(
        name, count, topology, "measured", graph.num_nodes, graph.num_edges, max(0.0, traced - forward),
        first, later, size, extra, step,
    )  # fmt: skip


# -- adding up -----------------------------------------------------------------------------------------------


def shape_of(shared: SharedBlock) -> tuple[Any, ...]:
    """What a shared block's cost depends on: which layer of a decoder it leads to, and its block's shape."""
    return re.sub(r"^layers\.\d+\.|#\d+$", "", shared.block.weight.name), tuple(shared.block.values.shape)


def cost(shared: SharedBlock) -> tuple[float, float]:
    """Seconds to read a block, and to multiply by it forth and back."""
    block, values = shared.block, shared.block.values
    forth, back = (
        torch.rand(values.shape[0], values.shape[2], 1),
        torch.rand(values.shape[0], values.shape[1], 1),
    )

    def multiply() -> None:
        torch.bmm(values, forth)
        torch.bmm(values.transpose(1, 2), back)

    return best(partial(read, block)), best(multiply)


def read(block: Block) -> None:
    """What a snapshot does with a block, but for the products: its values, its sums, its norm."""
    block.refresh()
    block.values.sum(1), block.values.sum(2), torch.linalg.vector_norm(block.values)


@dataclass(frozen=True)
class Costs:
    """Of a decoder's layers, measured on one of them."""

    of: dict[tuple[Any, ...], tuple[float, float]]
    per_node: float  # seconds of an iteration besides the products
    bytes_per_node: float
    iterations: tuple[int, int]  # of a first snapshot and a later one


@cache
def iterations() -> tuple[int, int]:
    """Of the eigenvector, in the largest decoder that is measured: first and later."""
    model, x = network(FITS[0])
    taker = SnapshotReader(trace(model, x, "dataflow"), per_layer=True)
    first = taker.read(0.0)
    training_step(model, x)
    return first.iterations, taker.read(1.0).iterations


def costs(name: str) -> Costs:
    """Measures a decoder of one layer; its head's table stays what it is."""
    model, x = network(name, depth=1)
    graph = trace(model, x, "dataflow")
    of = {shape_of(shared): cost(shared) for shared in graph.shared_blocks}
    taker = SnapshotReader(graph, per_layer=True)
    (snapshot, seconds), extra = timed(lambda: taker.read(0.0)), measured(lambda: taker.read(1.0)).peak
    streams = [of[shape_of(shared)] for shared in graph.shared_blocks]
    products = snapshot.iterations * sum(multiply for _, multiply in streams)
    rest = max(0.0, seconds - sum(reading for reading, _ in streams) - products)
    nodes = graph.num_nodes
    return Costs(of, rest / nodes / snapshot.iterations, extra / nodes, iterations())


def added_up(name: str) -> Row:
    """A decoder on the `meta` device, its snapshots from the costs of its layers."""
    known = costs(name)
    gc.collect()
    with torch.device("meta"):
        model, x = network(name)
    graph, traced = timed(lambda: trace(model, x, "dataflow"))
    found = [known.of[shape_of(shared)] for shared in graph.shared_blocks]
    reading, multiply = (sum(times) for times in zip(*found, strict=True))
    first, later = (
        reading + count * (multiply + known.per_node * graph.num_nodes) for count in known.iterations
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Row(
        name, parameters, "dataflow", "added up", graph.num_nodes, graph.num_edges, traced, first, later,
        graph_bytes(graph), known.bytes_per_node * graph.num_nodes,
    )  # fmt: skip


def refused(name: str) -> str:
    """Why there is no chain of a decoder."""
    with torch.device("meta"):
        model, x = network(name, depth=2)
    try:
        trace(model, x, "chain")
    except TracingError as error:
        return str(error).partition(";")[0]
    raise AssertionError("a decoder has a chain after all: measure it")


# -- output --------------------------------------------------------------------------------------------------

COLUMNS = (
    "network", "parameters", "topology", "", "nodes", "edges", "trace, s", "first snapshot, s", "later, s",
    "graph / weights", "extra, MiB", "extra / weights", "later / training step",
)  # fmt: skip


def cells(row: Row) -> list[str]:
    weights = 4 * row.parameters
    return [
        row.name, f"{row.parameters:,}", row.topology, row.how, f"{row.nodes:,}", f"{row.edges:,}",
        f"{row.trace:.2f}", f"{row.first:.3g}", f"{row.later:.3g}", f"{row.graph / weights:.2f}",
        f"{row.extra / MIB:.1f}", f"{row.extra / weights:.1%}",
        "" if row.step is None else f"{row.later / row.step:.2f}",
    ]  # fmt: skip


def rows() -> list[Row]:
    found = []
    topologies: tuple[Topology, ...] = ("chain", "dataflow")
    for name in IMAGES:
        if name == "resnet50" and not has_torchvision():
            continue
        found += [measure(name, topology) for topology in topologies]
    found += chain.from_iterable((measure(name, "dataflow"), added_up(name)) for name in FITS)
    return found + [added_up(name) for name in DECODERS if name not in FITS]


def has_torchvision() -> bool:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        return False
    return True


def markdown(found: list[Row]) -> str:
    lines = [COLUMNS, ["---", "---:", "---", "---", *("---:",) * 9], *map(cells, found)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--markdown", action="store_true")
    options.add_argument("--write", action="store_true")
    given = options.parse_args()
    torch.set_num_threads(1)
    found, seconds = timed(rows)
    first, later = iterations()
    notes = [
        f"One thread, torch {torch.__version__}, {seconds:.0f} s in all; decoders read {TOKENS} tokens. "
        f"Added up with {first} products with the graph for a first snapshot, {later} for a later one.",
        f"No chain for decoders: {refused(FITS[0])}.",
    ]
    text = "\n\n".join((markdown(found), *notes))
    if given.write:
        page = PAGE.read_text()
        begin, end = "<!-- begin scale -->\n", "\n<!-- end scale -->"
        PAGE.write_text(page.partition(begin)[0] + begin + text + end + page.partition(end)[2])
    if given.markdown:
        print(text)
        return
    table = Table(*COLUMNS)
    for row in found:
        table.add_row(*cells(row))
    console = Console(width=200)
    console.print(table, *notes, sep="\n")


if __name__ == "__main__":
    main()
