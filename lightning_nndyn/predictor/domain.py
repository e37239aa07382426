"""The domain of a predictor: the networks and the training its corpus resembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_nndyn.graph.tracing.tracer import Topology
from lightning_nndyn.predictor.features import Array
from lightning_nndyn.signature.snapshot import STATISTICS, Snapshot, statistics_matrix

_TAIL = 0.05
_MARGIN = 1.5
_LEAST_WIDTH = 0.02
_NAMED = 3
_STEPS_FACTOR = 1.5  # a snapshot's time is in epochs, but weights move by steps
_DEPTH_FACTOR = 1.5  # what is read is summarised over depth: some layers more change little, a multiple much


@dataclass(frozen=True)
class Training:
    """How a run is trained, as far as its weights do not tell. None is unknown, and not held against it.

    Attributes:
        steps_per_epoch: optimizer steps in an epoch.
        optimizer: the optimizer's class name in lower case, such as "sgd".
        planned_epochs: how many epochs it is to have at most; -1 for no end.
    """

    steps_per_epoch: float | None = None
    optimizer: str | None = None
    planned_epochs: float | None = None


def domain_of(
    first: Sequence[Snapshot], columns: Sequence[int], trainings: Sequence[Training] = ()
) -> dict[str, Any]:
    """What a corpus' networks are, their size and their signature before training, and how they are trained.

    A statistic's range is the corpus' own, widened to 1.5 times the distance between the 5 % and the 95 %
    quantile on both sides (about 6 standard deviations of a normal distribution). Between equal values
    that distance would be 0; 2 % of the median is its least.

    Args:
        first: the snapshot at epoch 0 of each run; those with weights that are not finite are left out.
        columns: indices of the statistics in use.
        trainings: how these runs were trained. Two thirds of the fewest to one and a half times the most
            steps in an epoch are in the domain, and no more epochs than the longest run was planned for.

    Returns:
        By name. What no run tells is None or empty; it is held against nobody. The kinds of layers are those
        of all networks together; two thirds of the least to one and a half times the greatest depth are in
        the domain.
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
        "steps_per_epoch": _around([t.steps_per_epoch for t in trainings if t.steps_per_epoch is not None]),
        "optimizers": sorted({t.optimizer for t in trainings if t.optimizer is not None}),
        "most_epochs": _longest([t.planned_epochs for t in trainings]),
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


def outside(domain: dict[str, Any], first: Snapshot, training: Training | None = None) -> str:
    """Say which facts of a run lie outside `domain`; empty if none does.

    Args:
        domain: what `domain_of` gave.
        first: the run's snapshot at epoch 0.
        training: how it is trained.
    """
    training = training or Training()
    reasons = (
        _outside_optimizers(domain, training.optimizer),
        _outside_steps(domain, training.steps_per_epoch),
        _outside_epochs(domain, training.planned_epochs),
        # Numbers of graphs that show different things do not compare.
        _outside_topology(domain, first) or _outside_graphs(domain, first),
    )
    return "; ".join(filter(None, reasons))


def _outside_optimizers(domain: dict[str, Any], optimizer: str | None) -> str:
    known = domain["optimizers"]
    if optimizer is None or not known or optimizer in known:
        return ""
    return f"it is trained by {optimizer}, the corpus by {' or '.join(known)}"


def _outside_steps(domain: dict[str, Any], steps_per_epoch: float | None) -> str:
    if steps_per_epoch is None or domain["steps_per_epoch"] is None:
        return ""
    low, high = domain["steps_per_epoch"]
    if low <= steps_per_epoch <= high:
        return ""
    return f"an epoch has {steps_per_epoch:g} optimizer steps, the corpus about {low:.3g} to {high:.3g}"


def _outside_epochs(domain: dict[str, Any], planned: float | None) -> str:
    # A run that has learned nothing by now may still, if it goes on for longer than any that is known.
    most = domain.get("most_epochs")
    if planned is None or most is None or 0 <= planned <= most:
        return ""
    length = "without end" if planned < 0 else f"for {planned:g} epochs"
    return f"it is planned {length}, the corpus' runs for {most:g} at most"


def topology_of(domain: Mapping[str, Any]) -> Topology:
    """Of the corpus' graphs; the first domains do not tell it: then there were only chains."""
    return "dataflow" if domain.get("topology") == "dataflow" else "chain"


def _outside_topology(domain: dict[str, Any], first: Snapshot) -> str:
    known = topology_of(domain)
    if first.topology == known:
        return ""
    return f"its graph is of topology {first.topology!r}, the corpus' of {known!r}"


def _outside_graphs(domain: dict[str, Any], first: Snapshot) -> str:
    reasons = (
        _outside_kinds(domain, first.kinds),
        _outside_depth(domain, first.depth),
        _outside_numbers(domain, first),
    )
    return "; ".join(filter(None, reasons))


def _outside_kinds(domain: dict[str, Any], kinds: Sequence[str]) -> str:
    known = domain.get("kinds") or kinds
    strange = [kind for kind in kinds if kind not in known]
    return f"it has layers of kinds the corpus has not: {', '.join(strange)}" if strange else ""


def _outside_depth(domain: dict[str, Any], depth: int) -> str:
    low, high = domain.get("depth") or (depth, depth)
    if not depth or low / _DEPTH_FACTOR <= depth <= high * _DEPTH_FACTOR:
        return ""
    return f"it is {depth} layers deep, the corpus {low if low == high else f'{low} to {high}'}"


def _outside_numbers(domain: dict[str, Any], first: Snapshot) -> str:
    found = dict(zip(STATISTICS, first.statistics, strict=True)) if first.finite else {}
    ranges = {name: domain[name] for name in ("num_nodes", "num_edges")}
    ranges |= {name: limits for name, limits in domain["statistics"].items() if name in found}
    found |= {"num_nodes": first.num_nodes, "num_edges": first.num_edges}
    parts = [
        f"{name} before training is {found[name]:.6g}, the corpus has {low:.6g} to {high:.6g}"
        for name, (low, high) in ranges.items()
        if not low <= found[name] <= high
    ]
    more = [f"and {len(parts) - _NAMED} statistics more"] if len(parts) > _NAMED else []
    return "; ".join(parts[:_NAMED] + more)
