"""The search for the principal eigenvector: hard spectra, warm starts, rounding."""

import time
from typing import Any, Literal

import numpy as np
import pytest
import torch
from small_graphs import chain, dense_eigenpair, random_chain
from torch import nn

import lightning_nndyn as nd
from lightning_nndyn.graph.eigensolver import (
    RayleighRitzSolver,
    StagnationTest,
    eigenvector_by_squaring,
    iterate,
    leading_pair_of_band,
)
from lightning_nndyn.graph.matvec import adjacency_operator


def test_nearly_tied_eigenvalues_are_told_apart() -> None:
    """Two weakly joined halves of almost equal weight: power iteration would need some 1e5 products."""
    a, b = torch.rand(6, 6).double() + 1, torch.rand(6, 6).double() + 1
    a, b = a / torch.linalg.matrix_norm(a, 2), b / torch.linalg.matrix_norm(b, 2) * (1 - 1e-5)
    joined = torch.full((6, 6), 1e-7, dtype=torch.float64)
    graph = chain(a, joined, b)
    result = nd.eigenvector_centrality(graph, tol=1e-9)
    _, expected = dense_eigenpair(graph)
    assert result.converged
    assert result.iterations < 200
    torch.testing.assert_close(result.vector, expected, rtol=0, atol=1e-3)


def test_previous_vector_pays_fewer_iterations() -> None:
    """Weights with heavy tails, as training leaves them, that move by one percent."""
    torch.manual_seed(0)
    weights = [torch.randn(60, 50, dtype=torch.float64).mul(1.5).exp() for _ in range(2)]
    weights = [weights[0], weights[1].T @ torch.eye(60, 60).double()]
    graph = chain(*weights)
    before = nd.eigenvector_centrality(graph)
    unmoved = nd.eigenvector_centrality(graph, start=before.vector)
    for weight in weights:
        weight *= 1 + 0.01 * torch.randn_like(weight)
    graph.refresh()
    cold = nd.eigenvector_centrality(graph)
    warm = nd.eigenvector_centrality(graph, start=before.vector)
    assert unmoved.iterations < warm.iterations < cold.iterations
    torch.testing.assert_close(warm.vector, cold.vector, rtol=0, atol=1e-5)


def test_start_that_misses_the_dominant_part_is_no_trap() -> None:
    """The previous vector is zero on the part that has since become the heaviest."""
    light, heavy = torch.ones(2, 2).double(), 3 * torch.ones(2, 2).double()
    graph = chain(torch.block_diag(light, heavy))
    start = torch.tensor([1.0, 1, 0, 0, 1, 1, 0, 0]).double() / 2
    result = nd.eigenvector_centrality(graph, start=start)
    assert result.eigenvalue == pytest.approx(6)
    torch.testing.assert_close(result.vector[[0, 1, 4, 5]], torch.zeros(4).double(), rtol=0, atol=1e-6)


def test_disconnected_parts_that_tie_are_answered() -> None:
    block = torch.rand(3, 3).double()
    graph = chain(torch.block_diag(block, block))
    result = nd.eigenvector_centrality(graph, tol=1e-9)
    assert result.converged
    assert (result.vector >= 0).all()
    assert result.eigenvalue == pytest.approx(torch.linalg.matrix_norm(block, 2).item())


def test_zero_layer_cuts_the_chain() -> None:
    graph = chain(torch.rand(4, 3).double(), torch.zeros(5, 4).double(), torch.rand(2, 5).double() * 0.1)
    result = nd.eigenvector_centrality(graph, tol=1e-9)
    assert result.converged
    assert (result.vector[:7] > 0.01).all()
    torch.testing.assert_close(result.vector[7:], torch.zeros(7).double(), rtol=0, atol=1e-8)
    assert (nd.weighted_degree(graph)[7:12] > 0).all()


def test_start_of_the_wrong_size_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(4,\)"):
        nd.eigenvector_centrality(random_chain(3, 2), start=torch.ones(4))


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_squaring_finds_the_same_vector_as_lapack(n: int) -> None:
    half = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    gram = half.T @ half
    expected = torch.linalg.eigh(gram).eigenvectors[:, -1]
    np.testing.assert_allclose(eigenvector_by_squaring(gram).abs(), expected.abs(), atol=1e-9)


@pytest.mark.parametrize(("gaps", "n"), [(1, 1), (1, 4), (40, 3), (20, 12)])
@pytest.mark.parametrize("kind", ["any", "falling", "tied", "none"])
def test_the_leading_pair_of_a_band_is_that_of_the_dense_matrix(gaps: int, n: int, kind: str) -> None:
    couplings = np.random.default_rng(gaps + n).standard_normal((gaps, n, n))
    if kind == "falling":
        couplings *= 10.0 ** -np.arange(gaps)[:, None, None]
    elif kind == "tied":
        couplings[:] = 0
        couplings[0], couplings[-1] = np.eye(n), (1 + 1e-9) * np.eye(n)
    elif kind == "none":
        couplings[:] = 0
    dense = np.zeros(((gaps + 1) * n,) * 2)
    for gap, coupling in enumerate(couplings):
        dense[(gap + 1) * n :][:n, gap * n :][:, :n] = coupling
    dense += dense.T
    largest = np.linalg.eigvalsh(dense)[-1]
    vector, value = leading_pair_of_band(couplings)
    assert value == pytest.approx(largest, rel=1e-12)
    assert vector.shape == (gaps + 1, n)
    assert np.linalg.norm(dense @ vector.ravel() - value * vector.ravel()) <= 1e-12 * largest
    if kind != "none":
        assert np.linalg.norm(vector) == pytest.approx(1)


@pytest.mark.parametrize("layers", [267, 300, 450])
@pytest.mark.parametrize("tails", [0.0, 1.0])
def test_a_deep_chain_takes_few_products_and_keeps_its_accuracy(layers: int, tails: float) -> None:
    torch.manual_seed(layers)
    graph = chain(*((tails * torch.randn(4, 4, dtype=torch.float64)).exp() for _ in range(layers)))
    expected, vector = dense_eigenpair(graph)
    found = nd.eigenvector_centrality(graph, tol=1e-9)
    assert found.converged and found.iterations < 40
    assert found.eigenvalue == pytest.approx(expected, rel=1e-9)
    if tails:  # equal weights leave the leading eigenvalues of a deep chain all but tied
        torch.testing.assert_close(found.vector, vector, rtol=0, atol=1e-5)


def test_a_deep_chain_cut_by_a_layer_without_weight_has_its_vector_on_one_side() -> None:
    torch.manual_seed(0)
    weights = [torch.rand(3, 3).double() for _ in range(300)]
    weights[150] = torch.zeros(3, 3).double()
    weights[20] *= 10
    result = nd.eigenvector_centrality(chain(*weights), tol=1e-9)
    assert result.converged and (result.vector[60:66] > 0.1).all()
    torch.testing.assert_close(result.vector[453:], torch.zeros(450).double(), rtol=0, atol=1e-8)
    none = nd.eigenvector_centrality(chain(*(torch.zeros(2, 2) for _ in range(300))))
    assert none.eigenvalue == 0 and (none.vector == none.vector[0]).all()


def test_the_time_of_a_deep_chain_does_not_grow_by_its_square() -> None:
    def seconds(layers: int) -> float:
        torch.manual_seed(0)
        graph = chain(*(torch.rand(8, 8) for _ in range(layers)))
        began = time.process_time()
        nd.eigenvector_centrality(graph)
        return time.process_time() - began

    seconds(300)  # imports
    assert min(seconds(2400) for _ in range(2)) < 30 * min(seconds(300) for _ in range(2))  # the square: 64


def test_layers_in_line_are_a_chain_to_the_search_in_the_data_flow_too() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(*(m for _ in range(100) for m in (nn.Linear(6, 6), nn.ReLU())))
    flow = nd.rolled_graph(layers, torch.zeros(2, 6), topology="dataflow")
    found, expected = (
        nd.eigenvector_centrality(flow),
        nd.eigenvector_centrality(nd.rolled_graph(layers, torch.zeros(2, 6))),
    )
    assert not flow.is_chain and found.converged and found.iterations < 40
    torch.testing.assert_close(found.vector, expected.vector)


def test_a_residual_that_rounding_keeps_above_the_tolerance_is_not_pursued() -> None:
    """In float32 a column of 42,000 numbers sums to an error near 1e-6."""
    torch.manual_seed(0)
    parts = nn.ModuleList([nn.Linear(8, 300), nn.Linear(8, 100), nn.Linear(400, 42_000)])

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = parts

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.parts[2](torch.cat((self.parts[1](x), self.parts[0](x)), 1))

    graph = nd.rolled_graph(Joined(), torch.randn(2, 8), topology="dataflow")
    exact = nd.eigenvector_centrality(graph, tol=1e-9)
    taker = nd.SnapshotTaker(graph)
    for epoch in range(3):
        snapshot = taker.read(float(epoch))
        assert snapshot.iterations < 40 and snapshot.residual < 2e-6
        assert snapshot.eigenvalue == pytest.approx(exact.eigenvalue, rel=1e-6)
    assert exact.converged and exact.residual <= 1e-9


@pytest.mark.parametrize("method", ["blocks", "csr"])
def test_shares_too_small_for_single_precision_are_none(method: Literal["blocks", "csr"]) -> None:
    """A diverging ResNet gathers its weight in its first layers: each layer has a tenth of the one before."""
    torch.manual_seed(0)
    scales = [100.0, *[0.1] * 60]
    graph = chain(*(scale * torch.rand(4, 4) for scale in scales))
    expected, vector = dense_eigenpair(graph)
    result = nd.eigenvector_centrality(graph, method=method)
    assert result.converged and result.eigenvalue == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(result.vector.double(), vector, rtol=0, atol=1e-6)
    again = nd.eigenvector_centrality(graph, tol=1e-9, max_iter=60, start=result.vector, method=method)
    assert again.vector.isfinite().all()
    taker = nd.SnapshotTaker(graph, per_layer=True)
    assert [taker.read(epoch).finite for epoch in (0.0, 1.0, 2.0)] == [True] * 3


class _Scripted:
    """A search whose vector has negative entries at first: its result is worse than its residual says."""

    dtype = torch.float64
    iterations = 0

    def relative_residual(self) -> torch.Tensor:
        return torch.tensor(1e-7)

    def result(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return torch.ones(1), torch.ones(()), torch.tensor([1e-3, 1e-4, 1e-8][self.iterations])

    def extend(self, steps: int) -> None:
        self.iterations += steps


def test_the_search_ends_where_the_result_itself_is_within_the_tolerance() -> None:
    solver: Any = _Scripted()
    assert float(iterate(solver, 1e-6, 100)[2]) == pytest.approx(1e-8) and solver.iterations == 2
    solver = _Scripted()
    assert float(iterate(solver, 1e-6, 1)[2]) == pytest.approx(1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_the_residual_of_a_result_bounds_that_of_the_vector_without_signs(seed: int) -> None:
    """Two parts that all but tie: their eigenvectors mix with both signs before they are told apart."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(5, 5, generator=generator).double() + 0.1 for _ in range(2))
    b *= torch.linalg.matrix_norm(a, 2) / torch.linalg.matrix_norm(b, 2) * (1 - 1e-6)
    graph = chain(torch.block_diag(a, b), 1e-4 * torch.rand(3, 10, generator=generator).double())
    start = torch.randn(graph.num_nodes, generator=generator).double()
    solver = RayleighRitzSolver(adjacency_operator(graph, 1e-9), nd.weighted_degree(graph), start)
    near = 0
    for _ in range(12):
        solver.extend(1)
        vector, value, residual = solver.result()
        true = torch.linalg.vector_norm(graph.adjacency().to_dense() @ vector - value * vector) / value
        if float(solver.relative_residual()) < 0.1:  # the eigenvalue is nearly found
            near += 1
            assert (vector >= 0).all() and float(true) <= float(residual) + 1e-12
    assert near


def test_a_residual_far_above_rounding_never_stagnates() -> None:
    stagnation = StagnationTest(torch.float32)
    assert not any(stagnation.reached(1e-3, iterations) for iterations in range(100))


def test_a_residual_near_rounding_stagnates_after_some_iterations() -> None:
    eps = torch.finfo(torch.float32).eps
    stagnation = StagnationTest(torch.float32)
    reached = [stagnation.reached((100 + iterations % 2) * eps, iterations) for iterations in range(20)]
    assert reached.index(True) == 12


def test_an_unchanged_residual_at_rounding_ends_the_search_at_once() -> None:
    eps = torch.finfo(torch.float32).eps
    stagnation = StagnationTest(torch.float32)
    assert not stagnation.reached(20 * eps, 5)
    assert stagnation.reached(20 * eps, 6)
