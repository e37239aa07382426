"""The domain of a predictor: which networks, and which training, the runs of its fit had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lightning_nndyn.graph.tracing.tracer import Topology
from lightning_nndyn.signature.snapshot import STATISTICS, Array, Snapshot, statistics_matrix

_TAIL = 0.05  # the range of a statistic is measured between the 5 % and the 95 % quantile
_MARGIN = 1.5  # times this distance it is widened, on both sides
_LEAST_WIDTH = 0.02  # of the median: equal values have a distance of 0
_NAMED = 3  # statistics in a message
_STEPS_FACTOR = 1.5  # a snapshot's time is in epochs, but weights move by steps
_DEPTH_FACTOR = 1.5  # what is read is summarised over depth: some layers more change little, a multiple much
# Held out from a fit to many sizes, networks up to twice the largest are predicted as well as new ones of
# known sizes; from three times on the errors grow. A corpus of one size says nothing of others.
_SIZE_FACTOR = 2.0


@dataclass(frozen=True)
class TrainingSetup:
    """How a run is trained, as far as its weights do not show it. None is unknown, and counts as in domain.

    Attributes:
        steps_per_epoch: optimizer steps in an epoch.
        optimizer: the optimizer's class name in lower case, such as "sgd".
        planned_epochs: how many epochs the run is to have at most; -1 for no end.
        learning_rate: that training begins with, before any schedule's factor.
    """

    steps_per_epoch: float | None = None
    optimizer: str | None = None
    planned_epochs: float | None = None
    # Runs are known by how long and by what they are trained, whatever their rates are.
    learning_rate: float | None = field(default=None, compare=False)


Training = TrainingSetup
"""The public name."""


def describe_domain(
    first: Sequence[Snapshot], columns: Sequence[int], setups: Sequence[TrainingSetup] = ()
) -> dict[str, Any]:
    """The networks of a corpus, their size and statistics before training, and how they are trained.

    A statistic's range is the corpus' own, widened to 1.5 times the distance between the 5 % and the 95 %
    quantile on both sides: about 6 standard deviations of a normal distribution.

    Args:
        first: the snapshot at epoch 0 of each run; those with weights that are not finite are left out.
        columns: indices of the statistics in use.
        setups: how these runs were trained. In domain are two thirds of the fewest to one and a half times
            the most steps in an epoch, and no more epochs than the longest run was planned for.

    Returns:
        The domain by name, for a card. What is known of no run is None or empty, and restricts nothing. The
        kinds of layers are those of all networks together. Two thirds of the least to one and a half times
        the greatest depth are in domain, and half the fewest to twice the most nodes and
        edges where these differ between the runs.
    """
    statistics = statistics_matrix(first)
    statistics = statistics[np.isfinite(statistics).all(axis=1)]
    depths = [s.depth for s in first if s.depth]
    return {
        "topology": first[0].topology,
        "kinds": sorted({kind for s in first for kind in s.kinds}),
        "depth": [min(depths), max(depths)] if depths else None,
        "num_nodes": [min(s.num_nodes for s in first), max(s.num_nodes for s in first)],
        "num_edges": [min(s.num_edges for s in first), max(s.num_edges for s in first)],
        "steps_per_epoch": _around([t.steps_per_epoch for t in setups if t.steps_per_epoch is not None]),
        "optimizers": sorted({t.optimizer for t in setups if t.optimizer is not None}),
        "most_epochs": _longest([t.planned_epochs for t in setups]),
        "statistics": {STATISTICS[i]: _range(statistics[:, i]) for i in columns},
    }


def _around(steps: Sequence[float]) -> list[float] | None:
    return [min(steps) / _STEPS_FACTOR, max(steps) * _STEPS_FACTOR] if steps else None


def _longest(planned: Sequence[float | None]) -> float | None:
    """The most epochs a run was planned for; None if one had no end, or its length is unknown."""
    known = [epochs for epochs in planned if epochs is not None and epochs >= 0]
    return max(known) if known and len(known) == len(planned) else None


def _range(values: Array) -> list[float]:
    low, middle, high = np.quantile(values, [_TAIL, 0.5, 1 - _TAIL])
    margin = _MARGIN * max(high - low, _LEAST_WIDTH * abs(middle))
    return [float(min(values.min(), low - margin)), float(max(values.max(), high + margin))]


def topology_of(domain: Mapping[str, Any]) -> Topology:
    """The topology of the corpus' graphs; the oldest domains do not name it: then there were only chains."""
    return "dataflow" if domain.get("topology") == "dataflow" else "chain"


def why_out_of_domain(domain: dict[str, Any], first: Snapshot, setup: TrainingSetup | None = None) -> str:
    """Which facts of a run lie outside a domain, in words; empty if none does.

    Args:
        domain: of `describe_domain`.
        first: the run's snapshot at epoch 0.
        setup: how it is trained.
    """
    setup = setup or TrainingSetup()
    reasons = (
        _check_optimizer(domain, setup.optimizer),
        _check_steps(domain, setup.steps_per_epoch),
        _check_planned_epochs(domain, setup.planned_epochs),
        # The numbers of graphs of different topologies do not compare.
        _check_topology(domain, first) or _check_graph(domain, first),
    )
    return "; ".join(filter(None, reasons))


def _check_optimizer(domain: dict[str, Any], optimizer: str | None) -> str:
    known = domain["optimizers"]
    if optimizer is None or not known or optimizer in known:
        return ""
    return f"it is trained by {optimizer}, the corpus by {' or '.join(known)}"


def _check_steps(domain: dict[str, Any], steps_per_epoch: float | None) -> str:
    if steps_per_epoch is None or domain["steps_per_epoch"] is None:
        return ""
    low, high = domain["steps_per_epoch"]
    if low <= steps_per_epoch <= high:
        return ""
    return f"an epoch has {steps_per_epoch:g} optimizer steps, the corpus about {low:.3g} to {high:.3g}"


def _check_planned_epochs(domain: dict[str, Any], planned: float | None) -> str:
    # A run that has learned nothing by now may still, if it goes on for longer than any run of the corpus.
    most = domain.get("most_epochs")
    if planned is None or most is None or 0 <= planned <= most:
        return ""
    length = "without end" if planned < 0 else f"for {planned:g} epochs"
    return f"it is planned {length}, the corpus' runs for {most:g} at most"


def _check_topology(domain: dict[str, Any], first: Snapshot) -> str:
    known = topology_of(domain)
    if first.topology == known:
        return ""
    return f"its graph is of topology {first.topology!r}, the corpus' of {known!r}"


def _check_graph(domain: dict[str, Any], first: Snapshot) -> str:
    reasons = (
        _check_layer_kinds(domain, first.kinds),
        _check_depth(domain, first.depth),
        _check_numbers(domain, first),
    )
    return "; ".join(filter(None, reasons))


def _check_layer_kinds(domain: dict[str, Any], kinds: Sequence[str]) -> str:
    known = domain.get("kinds") or kinds
    unknown = [kind for kind in kinds if kind not in known]
    return f"it has layers of kinds the corpus has not: {', '.join(unknown)}" if unknown else ""


def _check_depth(domain: dict[str, Any], depth: int) -> str:
    low, high = domain.get("depth") or (depth, depth)
    if not depth or _within(depth, low, high, _DEPTH_FACTOR):
        return ""
    return f"it is {depth} layers deep, the corpus {low if low == high else f'{low} to {high}'}"


def _check_numbers(domain: dict[str, Any], first: Snapshot) -> str:
    found = dict(zip(STATISTICS, first.statistics, strict=True)) if first.finite else {}
    sizes = {"num_nodes": first.num_nodes, "num_edges": first.num_edges}
    ranges = {name: domain[name] for name in sizes}
    ranges |= {name: limits for name, limits in domain["statistics"].items() if name in found}
    found |= sizes
    parts = [
        f"{name} before training is {found[name]:.6g}, the corpus has {low:.6g} to {high:.6g}"
        for name, (low, high) in ranges.items()
        if not _within(found[name], low, high, _SIZE_FACTOR if name in sizes and low < high else 1.0)
    ]
    more = [f"and {len(parts) - _NAMED} statistics more"] if len(parts) > _NAMED else []
    return "; ".join(parts[:_NAMED] + more)


def _within(value: float, low: float, high: float, factor: float) -> bool:
    return bool(low / factor <= value <= high * factor)
