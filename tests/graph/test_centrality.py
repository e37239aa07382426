"""Degree and eigenvector centrality against row sums, dense eigenvectors and networkx."""

import functools

import networkx
import pytest
import torch
from small_graphs import chain, dense_eigenpair, random_chain
from torch import Tensor

import lightning_nndyn as nd
from lightning_nndyn.errors import NonFiniteWeightsError
from lightning_nndyn.graph.rolled import RolledGraph

NETWORKS = ["lenet5", "alexnet", "vgg7", "resnet32", "resnet44"]


@functools.cache
def network(name: str) -> tuple[RolledGraph, Tensor, float, Tensor]:
    """One of the paper's networks: graph, dense adjacency, largest eigenvalue and its vector."""
    torch.manual_seed(0)
    graph = nd.rolled_graph(getattr(nd.models, name)())
    return graph, graph.adjacency().to_dense().double(), *dense_eigenpair(graph)


@pytest.mark.parametrize("name", NETWORKS)
def test_degree_is_the_row_sum(name: str) -> None:
    graph, adjacency, _, _ = network(name)
    torch.testing.assert_close(nd.weighted_degree(graph).double(), adjacency.sum(1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", ["blocks", "csr"])
@pytest.mark.parametrize("tol", [1e-4, 1e-6, 1e-9])
@pytest.mark.parametrize("name", NETWORKS)
def test_eigenvector_of_the_papers_networks(name: str, tol: float, method: str) -> None:
    graph, adjacency, eigenvalue, expected = network(name)
    result = nd.eigenvector_centrality(graph, tol=tol, method=method)
    assert result.converged
    assert result.residual <= tol
    # The residual as float64 sees it; float32 itself is good for some 2e-7.
    error = adjacency @ result.vector.double() - result.eigenvalue * result.vector.double()
    assert error.norm().item() / result.eigenvalue <= tol + 2e-7
    assert result.eigenvalue == pytest.approx(eigenvalue, rel=max(tol, 1e-6))
    assert (result.vector >= 0).all()
    assert result.vector.double().norm().item() == pytest.approx(1, abs=1e-6)
    if tol <= 1e-6:
        torch.testing.assert_close(result.vector.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sizes", [(3, 4), (2, 5, 3), (4, 3, 2, 5), (6, 5, 4, 3, 2, 7), (2, 1), (1, 9, 1)])
def test_small_bipartite_chains_against_networkx(sizes: tuple[int, ...]) -> None:
    graph = random_chain(*sizes)
    result = nd.eigenvector_centrality(graph, tol=1e-10)
    other = networkx.eigenvector_centrality_numpy(graph.to_networkx(), weight="weight")
    expected = torch.tensor([abs(other[node]) for node in range(graph.num_nodes)])
    torch.testing.assert_close(result.vector, expected, rtol=0, atol=1e-5, check_dtype=False)


def test_graph_without_weight_has_the_uniform_vector() -> None:
    graph = chain(torch.zeros(4, 3), torch.zeros(2, 4))
    result = nd.eigenvector_centrality(graph)
    assert (result.eigenvalue, result.residual, result.converged) == (0.0, 0.0, True)
    torch.testing.assert_close(result.vector, torch.full((9,), 1 / 3))
    assert (nd.weighted_degree(graph) == 0).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_non_finite_weights_are_an_error_that_names_the_layer(bad: float) -> None:
    weights = [torch.rand(4, 3), torch.rand(2, 4).repeat_interleave(9, dim=1)]
    weights[1][0, 0] = bad
    graph = chain(weights[0], weights[1])
    with pytest.raises(NonFiniteWeightsError, match="'fc1'"):
        nd.weighted_degree(graph)
    with pytest.raises(NonFiniteWeightsError, match="'fc1'"):
        nd.eigenvector_centrality(graph)


def test_exhausted_iterations_are_reported() -> None:
    torch.manual_seed(0)
    graph = nd.rolled_graph(nd.models.resnet44())
    result = nd.eigenvector_centrality(graph, max_iter=1)
    assert not result.converged
    assert result.residual > 1e-6
    assert result.vector.isfinite().all()


@pytest.mark.parametrize("arguments", [{"tol": 0.0}, {"tol": float("nan")}, {"max_iter": 0}])
def test_bad_arguments_are_named(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        nd.eigenvector_centrality(random_chain(3, 2), **arguments)


@pytest.mark.cuda
@pytest.mark.parametrize("method", ["blocks", "csr", "auto"])
@pytest.mark.parametrize("name", NETWORKS)
def test_on_a_gpu(name: str, method: str) -> None:
    torch.manual_seed(0)
    model = getattr(nd.models, name)()
    expected = nd.eigenvector_centrality(nd.rolled_graph(model))
    graph = nd.rolled_graph(model.cuda())
    assert graph.adjacency().device.type == "cuda"
    result = nd.eigenvector_centrality(graph, method=method)
    assert result.vector.device.type == "cuda"
    assert result.residual <= 1e-6
    torch.testing.assert_close(result.vector.cpu(), expected.vector, rtol=0, atol=1e-5)
