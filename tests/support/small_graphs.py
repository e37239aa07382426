"""Chains of fully connected layers with given or random weights, and their eigenvectors."""

import torch
from torch import Tensor

from lightning_nndyn.graph.blocks import LayerWeight
from lightning_nndyn.graph.rolled import RolledGraph


def chain(*weights: Tensor) -> RolledGraph:
    """The graph of fully connected layers with weights [out, in]."""
    sizes = [weights[0].shape[1], *(w.shape[0] for w in weights)]
    return RolledGraph(sizes, [LayerWeight(f"fc{i}", lambda w=w: w) for i, w in enumerate(weights)])


def random_chain(*sizes: int, seed: int = 0) -> RolledGraph:
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(sizes[1:], sizes, strict=False)
    return chain(*(torch.randn(o, i, generator=generator, dtype=torch.float64) for o, i in pairs))


def dense_eigenpair(graph: RolledGraph) -> tuple[float, Tensor]:
    values, vectors = torch.linalg.eigh(graph.adjacency().to_dense().double())
    return values[-1].item(), vectors[:, -1].abs()
