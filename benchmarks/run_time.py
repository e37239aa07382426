"""Run time (Fig. 6 of the paper): an epoch of training, and the graphs with both features, on one core.

    python benchmarks/run_time.py [lenet5 alexnet ...]

Writes results/run_time.parquet, from which `make results-pages` makes the table. All times are seconds of the
processor, taken in one run. An epoch is that of 50,000 images; two batches of 128 random images are trained,
and their time is scaled. A graph is read cold, from the network on, and warm: again after the weights have
changed. The unrolled one is the negative part. With edges it is made as a sparse matrix whose eigenvector
SciPy finds, up to two million edges; networkx works on the rolled graph up to the same size.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import networkx
import scipy.sparse
import torch
from memory_peaks import measured
from rich.console import Console
from rich.table import Table
from torch import nn

import lightning_nndyn as nd
from lightning_nndyn.evaluation.result_file import write_rows
from lightning_nndyn.graph.unrolled import SignedSubgraph

RESULTS = Path(__file__).parent.parent / "results" / "run_time.parquet"
NETWORKS = ("lenet5", "alexnet", "vgg7", "resnet32", "resnet44", "resnet50")
COLUMNS = (
    "epoch",
    "rolled cold",
    "rolled warm",
    "unrolled cold",
    "unrolled warm",
    "unrolled with edges",
    "networkx",
)
EPOCH, BATCH, BATCHES, LISTED = 50_000, 128, 2, 2_000_000
IMAGE = torch.zeros(1, 3, 32, 32)


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return getattr(nd.models, name)(100 if name == "resnet50" else 10)


def train(model: nn.Module, batches: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(batches):
        images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


def changed(model: nn.Module) -> None:
    """Moves each weight by one per cent of its size, as an epoch does."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.01 * torch.randn_like(parameter))


def with_edges(part: SignedSubgraph) -> None:
    """Both features of a graph whose edges are listed."""
    csr = part.adjacency(max_edges=LISTED)
    matrix = scipy.sparse.csr_matrix((csr.values(), csr.col_indices(), csr.crow_indices()), csr.shape)
    degree = matrix.sum(axis=1)
    nd.summarize(torch.from_numpy(degree).flatten())
    _, vector = scipy.sparse.linalg.eigsh(matrix, k=1, which="LA", tol=1e-6)
    nd.summarize(torch.from_numpy(vector).abs().flatten())


def with_networkx(model: nn.Module) -> None:
    graph = nd.rolled_graph(model, IMAGE).to_networkx()
    degree = [value for _, value in graph.degree(weight="weight")]
    nd.summarize(torch.tensor(degree))
    vector = networkx.eigenvector_centrality_numpy(graph, weight="weight")
    nd.summarize(torch.tensor(list(vector.values())))


def cold_and_warm(model: nn.Module, readers: Callable[[], list[nd.SnapshotTaker]]) -> tuple[float, float]:
    """Seconds of making readers and reading once, and of reading again; the latter a mean of three."""
    made: list[nd.SnapshotTaker] = []

    def cold() -> None:
        made.extend(readers())
        for reader in made:
            reader.read(0.0)

    first, later = seconds(cold), 0.0
    for epoch in (1.0, 2.0, 3.0):
        changed(model)
        later += seconds(lambda: [reader.read(epoch) for reader in made])  # noqa: B023  # called at once
    return first, later / 3


def rolled(model: nn.Module) -> list[nd.SnapshotTaker]:
    return [nd.SnapshotTaker(nd.rolled_graph(model, IMAGE))]


def negative(model: nn.Module) -> list[nd.SnapshotTaker]:
    return [nd.SnapshotTaker(nd.unrolled_graph(model, IMAGE).negative())]


def measure(name: str) -> dict[str, object]:
    """Seconds of each of `COLUMNS` for a network, None where it was not tried, and edges and memory."""
    model = network(name)
    train(model, 1)
    found: dict[str, object] = dict.fromkeys(COLUMNS)
    found["epoch"] = seconds(lambda: train(model, BATCHES)) * EPOCH / (BATCHES * BATCH)
    model.eval()
    found["rolled cold"], found["rolled warm"] = cold_and_warm(model, lambda: rolled(model))
    found["unrolled cold"], found["unrolled warm"] = cold_and_warm(model, lambda: negative(model))
    part = nd.unrolled_graph(model, IMAGE).negative()
    if part.num_edges <= LISTED:
        found["unrolled with edges"] = seconds(lambda: with_edges(part))
    if nd.rolled_graph(model, IMAGE).num_edges <= LISTED:
        found["networkx"] = seconds(lambda: with_networkx(model))
    reader = nd.SnapshotTaker(part)
    found["MB"] = measured(lambda: reader.read(0.0)).peak / 1e6
    return {"network": name, "edges": nd.unrolled_graph(model, IMAGE).num_edges} | found


def printed(rows: list[dict[str, object]]) -> Table:
    table = Table(
        title=f"Seconds of the processor, torch {torch.__version__}, {torch.get_num_threads()} thread"
    )
    for column in rows[0]:
        table.add_column(column, justify="right")
    for row in rows:
        cells = row.values()
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell or "-") for cell in cells))
    return table


def main() -> None:
    torch.set_num_threads(1)
    names = sys.argv[1:] or NETWORKS
    rows = []
    for name in names:
        rows.append(measure(name))
        print(rows[-1], flush=True)
    Console(width=150).print(printed(rows))
    if not sys.argv[1:]:
        write_rows(RESULTS, rows, {"epoch": EPOCH, "batch": BATCH, "torch": torch.__version__})


if __name__ == "__main__":
    main()
