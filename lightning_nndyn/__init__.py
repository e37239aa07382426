"""Predicts a training run's final accuracy from how the network's weights move during its first epochs.

The network is a rolled k-partite graph. Statistics of its weighted degree and eigenvector centrality form its
signature, and a predictor reads the signatures of the first epochs::

    import lightning_nndyn as nd

    graph = nd.rolled_graph(model)              # which layer feeds which, edge weights from kernel norms
    nd.weighted_degree(graph)                   # Tensor[V]
    nd.eigenvector_centrality(graph).vector     # Tensor[V]
    nd.summarize(nd.weighted_degree(graph))     # median, mean, std, skewness, kurtosis

    callback = nd.GraphDynamicsCallback(predictor="lenet5-digits")
    lightning.Trainer(callbacks=[callback])     # stops a run that will end low, and says why

What runs in a user's training, each on top of those before it:

- `errors`: exceptions and warnings.
- `_files`: atomic writes and file locks.
- `graph`: the rolled and the unrolled graph, their centralities and five statistics; in `graph.tracing` how
  a graph is found in a forward pass.
- `signature`: snapshots of these statistics over time, and the movement between them.
- `predictor`: from snapshots and a learning curve to a verdict, and from a verdict to a decision.
- `sweep`: learning from a sweep's own finished runs.
- `integrations`: Optuna and Ray Tune.
- `callback`: the Lightning callback.
- `study`: ``nndyn sweep`` and ``nndyn race``, sweeps that this package runs itself.

What only makers of predictors need:

- `corpus`: recorded training runs, on which predictors are fitted.
- `evaluation`: fitting, benchmarks, the paper's tables, replays of tuners and the HTML report.

On top of all of them stands `cli`, the command ``nndyn``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_nndyn import errors
from lightning_nndyn.graph import (
    AGGREGATORS,
    EigenvectorCentrality,
    RolledGraph,
    eigenvector_centrality,
    summarize,
    weighted_degree,
)
from lightning_nndyn.graph.tracing.custom_layers import register_layer
from lightning_nndyn.graph.tracing.tracer import LayerTracer, rolled_graph
from lightning_nndyn.signature import SIGNATURE_VERSION, STATISTICS, Snapshot, SnapshotTaker, temporal

__version__ = "0.1.0"

# Imported on first use: Lightning and scikit-learn take seconds to import, and the graph needs neither.
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

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
