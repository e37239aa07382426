"""Time of a cold and of a warm signature, side by side with scipy, networkx and one pass over the weights.

    python benchmarks/signature.py [alexnet resnet50 ...]

One thread on the CPU. Every competitor starts from the same weight tensors and ends with the same ten
numbers; each figure is the fastest of several repetitions, all taken in one run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import networkx
import numpy as np
import scipy.sparse as sparse
import scipy.stats
import torch
from rich.console import Console
from rich.table import Table
from scipy.sparse.linalg import eigsh
from sklearn.datasets import load_digits
from torch import nn

import lightning_nndyn as nd
from lightning_nndyn.graph.rolled import RolledGraph

TOL = 1e-6


def best(work: Callable[[], object], repetitions: int) -> float:
    """Seconds of the fastest repetition."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def five(values: np.ndarray) -> list[float]:
    return [
        np.median(values),
        values.mean(),
        values.std(),
        scipy.stats.skew(values),
        scipy.stats.kurtosis(values),
    ]


def numpy_blocks(graph: RolledGraph) -> list[np.ndarray]:
    """The edge weights [targets, sources] of each block, with numpy from the raw weights."""
    blocks = []
    for block in graph.blocks:
        weight = block.weight.slices().flatten(0, 1).numpy()
        sources = graph.layer_sizes[block.source]
        weight = weight.reshape(len(weight), sources, -1)
        blocks.append(np.sqrt(np.einsum("ock,ock->oc", weight, weight)))
    return blocks


def biadjacency(graph: RolledGraph) -> sparse.csr_matrix:
    offsets = graph.offsets
    rows, columns, values = [], [], []
    for block, weight in zip(graph.blocks, numpy_blocks(graph), strict=True):
        targets, sources = weight.shape
        rows.append(np.repeat(np.arange(targets) + offsets[block.target], sources))
        columns.append(np.tile(np.arange(sources) + offsets[block.source], targets))
        values.append(weight.ravel())
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix(entries, shape=(offsets[-1], offsets[-1]))


def with_scipy(graph: RolledGraph) -> list[float]:
    half = biadjacency(graph)
    matrix = half + half.T
    degree = np.asarray(matrix.sum(axis=1)).ravel()
    _, vector = eigsh(matrix, k=1, which="LA", tol=TOL, v0=degree)
    return five(degree) + five(np.abs(vector[:, 0]))


def with_networkx(graph: RolledGraph) -> list[float]:
    matrix = networkx.from_scipy_sparse_array(biadjacency(graph))
    degree = np.array([value for _, value in matrix.degree(weight="weight")])
    vector = networkx.eigenvector_centrality_numpy(matrix, weight="weight", tol=TOL)
    return five(degree) + five(np.array(list(vector.values())))


def train_one_epoch(model: nn.Module) -> None:
    """One epoch on scikit-learn's digits, at 32x32 in three channels: SGD, momentum 0.9, batch 128."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None].div(8).sub(1)
    images = nn.functional.interpolate(images, size=32).expand(-1, 3, -1, -1)
    labels = torch.tensor(digits.target)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for batch in torch.randperm(len(labels)).split(128):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()


def measure(name: str, table: Table) -> None:
    torch.manual_seed(0)
    model = getattr(nd.models, name)(100 if name == "resnet50" else 10)
    graph = nd.rolled_graph(model)
    weights = [block.weight.read().detach() for block in graph.blocks]
    cold = best(lambda: nd.SnapshotTaker(graph).take(0.0), 10)
    scipy_time = best(lambda: with_scipy(graph), 3)
    ours = nd.SnapshotTaker(graph).take(0.0).statistics
    np.testing.assert_allclose(with_scipy(graph), ours, rtol=1e-3, atol=1e-4)
    networkx_time = best(lambda: with_networkx(graph), 1) if graph.num_edges < 2_000_000 else None

    taker = nd.SnapshotTaker(graph)
    taker.take(0.0)
    previous = taker._vector
    train_one_epoch(model)

    def warm() -> None:
        taker._vector = previous
        taker.take(1.0)

    warm_time = best(warm, 10)
    sweep = best(lambda: [weight.abs().sum() for weight in weights], 10)
    blocks = best(lambda: nd.eigenvector_centrality(graph, method="blocks"), 5)
    csr = best(lambda: nd.eigenvector_centrality(graph, method="csr"), 1)
    table.add_row(
        name,
        f"{1e3 * cold:.1f}",
        f"{scipy_time / cold:.1f} x",
        "-" if networkx_time is None else f"{networkx_time / cold:.0f} x",
        f"{1e3 * warm_time:.1f}",
        f"{warm_time / sweep:.1f} x",
        f"{csr / blocks:.0f} x",
    )


def main() -> None:
    torch.set_num_threads(1)
    table = Table(title=f"One thread, torch {torch.__version__}; residual {TOL:g}")
    for column in (
        "network", "cold, ms", "scipy takes", "networkx takes", "warm, ms", "warm / abs().sum()",
        "CSR / blocks",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for name in sys.argv[1:] or ["lenet5", "alexnet", "resnet44", "resnet50"]:
        measure(name, table)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
