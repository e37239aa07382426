"""Snapshots of the unrolled graph through training: its signed parts, the whole, and what a reader keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from memory_peaks import measured
from nested_loops import lenet_on_digits
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.graph.unrolled import SignedSubgraph, UnrolledGraph

PARTS: dict[str, Callable[[UnrolledGraph], SignedSubgraph | UnrolledGraph]] = {
    "positive": UnrolledGraph.positive,
    "negative": UnrolledGraph.negative,
    "whole": lambda graph: graph,
}


class Residual(nn.Module):
    """Two blocks with a shortcut each, the second one with a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.second, self.projection = nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(4, 6, 1, 2)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (x + self.first(x)).relu()
        x = (self.projection(x) + self.second(x)).relu()
        return self.head(self.pool(x).flatten(1))


def train(model: nn.Module, x: Tensor, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), torch.tensor([3])).backward()
        optimizer.step()


def expected(part: SignedSubgraph | UnrolledGraph) -> tuple[list[float], Tensor, Tensor]:
    """Statistics of the degrees, eigenvalues and eigenvectors, from the dense matrix of all edges."""
    matrix = part.adjacency().to_dense().abs()
    values, vectors = torch.linalg.eigh(matrix)
    return nd.summarize(matrix.sum(1)).tolist(), values, vectors


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("residual", [False, True])
def test_snapshots_through_training_are_those_of_the_graph_with_its_edges(name: str, residual: bool) -> None:
    model, x = lenet_on_digits()
    model = Residual() if residual else model
    part = PARTS[name](nd.unrolled_graph(model, x))
    reader = nd.SnapshotTaker(part)
    for epoch in range(3):
        snapshot = reader.read(float(epoch))
        degree, values, vectors = expected(part)
        assert snapshot.statistics[:5] == pytest.approx(degree, rel=1e-6)
        assert snapshot.eigenvalue == pytest.approx(float(values[-1]), rel=1e-5)
        assert snapshot.residual <= 1e-6
        if values[-1] - values[-2] > 1e-3 * values[-1]:  # otherwise any vector of the two is one
            found = nd.summarize(vectors[:, -1].abs()).tolist()
            assert snapshot.statistics[5:8] == pytest.approx(found[:3], abs=1e-5)
        assert snapshot.num_edges == int((part.adjacency().values() != 0).sum()) // 2
        train(model, x)


def test_warm_start_takes_fewer_products() -> None:
    model, x = lenet_on_digits()
    reader = nd.SnapshotTaker(nd.unrolled_graph(model, x).positive())
    cold = reader.read(0.0)
    train(model, x)
    assert reader.read(1.0).iterations < cold.iterations


def test_later_snapshots_keep_no_more_memory_and_pass_through_less() -> None:
    model = nd.models.lenet5()
    reader = nd.SnapshotTaker(nd.unrolled_graph(model, torch.zeros(1, 3, 32, 32)).negative())
    first = measured(lambda: reader.read(0.0))
    later = measured(lambda: reader.read(1.0))
    basis = 36 * reader.graph.num_nodes * 4  # three times twelve vectors
    assert first.left >= basis
    assert later.left <= 1024
    assert later.peak <= basis / 2


def test_memory_layout_changes_nothing() -> None:
    model = nd.models.lenet5()
    image = torch.zeros(1, 3, 32, 32)
    plain = nd.SnapshotTaker(nd.unrolled_graph(model, image)).read(0.0)
    model = model.to(memory_format=torch.channels_last)
    image = image.contiguous(memory_format=torch.channels_last)
    found = nd.SnapshotTaker(nd.unrolled_graph(model, image)).read(0.0)
    assert found.statistics == pytest.approx(plain.statistics, rel=1e-5)


def test_products_are_formed_in_the_precision_of_the_weights() -> None:
    model, x = lenet_on_digits()
    single = nd.SnapshotTaker(nd.unrolled_graph(model, x).positive()).read(0.0)
    double = nd.SnapshotTaker(nd.unrolled_graph(model.double(), x.double()).positive(), tol=1e-9).read(0.0)
    assert double.residual <= 1e-9
    assert single.statistics == pytest.approx(double.statistics, rel=1e-4)


def test_weights_that_are_not_finite_give_a_snapshot_without_numbers() -> None:
    model, x = lenet_on_digits()
    reader = nd.SnapshotTaker(nd.unrolled_graph(model, x))
    reader.read(0.0)
    model[0].weight.data[0] = torch.nan
    assert not reader.read(1.0).finite
