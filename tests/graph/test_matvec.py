"""Products with the adjacency against the dense matrix, and the choice between the operators."""

import pytest
import torch
from small_graphs import random_chain
from torch import nn

import lightning_nndyn as nd
from lightning_nndyn.graph import matvec
from lightning_nndyn.graph.matvec import AdjacencyOperator, BlockOperator, CsrOperator
from lightning_nndyn.graph.rolled import RolledGraph

GRAPHS = {
    "chain": lambda: random_chain(5, 4, 3, 6),
    "groups": lambda: nd.rolled_graph(nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 6, 1))),
    "data flow": lambda: nd.rolled_graph(nd.models.resnet32(), torch.zeros(1, 3, 8, 8), topology="dataflow"),
}


@pytest.mark.parametrize("dtype", [None, torch.float64])
@pytest.mark.parametrize("operator", [BlockOperator, CsrOperator])
@pytest.mark.parametrize("name", GRAPHS)
def test_products_equal_the_dense_matrix(
    name: str, operator: type[AdjacencyOperator], dtype: torch.dtype | None
) -> None:
    graph: RolledGraph = GRAPHS[name]()
    dtype = dtype or graph.dtype
    products, vector = operator(graph, dtype), torch.rand(graph.num_nodes, dtype=dtype)
    along = graph.adjacency().to_dense().to(dtype).tril()  # edges lead to later nodes
    torch.testing.assert_close(products.matvec_forward(vector), along @ vector)
    torch.testing.assert_close(products.matvec_backward(vector), along.T @ vector)
    graph.distinct_weights.mul_(2)
    products.refresh()
    torch.testing.assert_close(products.matvec_forward(vector), 2 * along @ vector)
    torch.testing.assert_close(products.matvec_backward(vector), 2 * along.T @ vector)


def test_a_gpu_takes_no_fixed_matrix_for_edges_that_change_with_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor one of many bytes an edge for a network so large that its training may need them."""

    def deep(width: int) -> nn.Sequential:
        return nn.Sequential(*(nn.Linear(width, width) for _ in range(9)))

    signed = nd.unrolled_graph(deep(9), torch.zeros(1, 9)).positive()
    small, large = (nd.rolled_graph(deep(width), torch.zeros(1, width)) for width in (9, 400))
    for name in ("CsrOperator", "BlockOperator"):
        monkeypatch.setattr(matvec, name, lambda *_, name=name: name)
    for graph in (small, signed):
        monkeypatch.setattr(type(graph), "device", torch.device("cuda"))
    chosen = [matvec.adjacency_operator(graph, 1e-6) for graph in (small, large, signed)]
    assert chosen == ["CsrOperator", "BlockOperator", "BlockOperator"]
