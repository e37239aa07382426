"""The rolled and the unrolled graph of a network, their centralities and statistics.

Sections 2.1 to 2.3 and 3.1 of the paper. In: a module and an example input. Out: edge weights, weighted
degree, eigenvector centrality, and five statistics of each.
"""

from lightning_nndyn.graph.centrality import (
    EigenvectorCentrality,
    eigenvector_centrality,
    weighted_degree,
)
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.statistics import AGGREGATORS, summarize

__all__ = [
    "AGGREGATORS",
    "EigenvectorCentrality",
    "RolledGraph",
    "eigenvector_centrality",
    "summarize",
    "weighted_degree",
]
