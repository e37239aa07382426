"""lightning-nndyn: tells from a network's weights, in the first epochs, how accurate a training run will end.

The network is a rolled k-partite graph; its weighted degree and eigenvector centrality make a signature, and
the signatures of the first epochs feed a predictor. From bottom to top::

    import lightning_nndyn as nd

    graph = nd.rolled_graph(model)              # which layer feeds which, edge weights from kernel norms
    nd.weighted_degree(graph)                   # Tensor[V]
    nd.eigenvector_centrality(graph).vector     # Tensor[V]
    nd.summarize(nd.weighted_degree(graph))     # median, mean, std, skewness, kurtosis

    callback = nd.GraphDynamicsCallback(predictor="lenet5-digits")
    lightning.Trainer(callbacks=[callback])     # stops a run that will end low, and says why
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_nndyn import errors
from lightning_nndyn.graph.centrality import (
    EigenvectorCentrality,
    eigenvector_centrality,
    weighted_degree,
)
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.statistics import AGGREGATORS, summarize
from lightning_nndyn.graph.tracing.custom_layers import register_layer
from lightning_nndyn.graph.tracing.tracer import LayerTracer, rolled_graph
from lightning_nndyn.signature.reader import SnapshotTaker
from lightning_nndyn.signature.snapshot import SIGNATURE_VERSION, STATISTICS, Snapshot
from lightning_nndyn.signature.temporal import temporal

__version__ = "0.1.0"

# Imported at first use: Lightning and scikit-learn take seconds, and the graph needs neither.
_LAZY = {
    "GraphDynamicsCallback": "callback",
    "Decision": "predictor.policy",
    "Policy": "predictor.policy",
    "Predictor": "predictor",
    "Training": "predictor",
    "Verdict": "predictor",
    "list_predictors": "predictor",
    "load_predictor": "predictor",
    "models": "corpus",
    "unrolled_graph": "graph.unrolled",
}

__all__ = [
    "AGGREGATORS",
    "SIGNATURE_VERSION",
    "STATISTICS",
    "Decision",
    "EigenvectorCentrality",
    "GraphDynamicsCallback",
    "LayerTracer",
    "Policy",
    "Predictor",
    "RolledGraph",
    "Snapshot",
    "SnapshotTaker",
    "Training",
    "Verdict",
    "eigenvector_centrality",
    "errors",
    "list_predictors",
    "load_predictor",
    "models",
    "register_layer",
    "rolled_graph",
    "summarize",
    "temporal",
    "unrolled_graph",
    "weighted_degree",
]

if TYPE_CHECKING:
    from lightning_nndyn.callback import GraphDynamicsCallback
    from lightning_nndyn.corpus import models
    from lightning_nndyn.graph.unrolled import unrolled_graph
    from lightning_nndyn.predictor import Predictor, Training, Verdict, list_predictors, load_predictor
    from lightning_nndyn.predictor.policy import Decision, Policy


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = import_module(f"{__name__}.{_LAZY[name]}")
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
