"""The card of a predictor: JSON-able facts about its fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from lightning_nndyn._files import Count, Finite, decode
from lightning_nndyn.predictor import persistence
from lightning_nndyn.predictor.cross_validation import CrossValidated
from lightning_nndyn.predictor.domain import TrainingSetup, describe_domain
from lightning_nndyn.predictor.risk import max_risk_per_run
from lightning_nndyn.predictor.training_set import TrainingSet
from lightning_nndyn.signature.snapshot import SIGNATURE_VERSION, Snapshot

_Range = tuple[Finite, Finite]


class _Domain(msgspec.Struct):
    """See `describe_domain`. The oldest domains lack what has a default."""

    num_nodes: _Range
    num_edges: _Range
    steps_per_epoch: _Range | None
    optimizers: list[str]
    statistics: dict[str, _Range]
    topology: str = "chain"
    kinds: list[str] = msgspec.field(default_factory=list)
    depth: _Range | None = None
    most_epochs: Finite | None = None


class _Calibration(msgspec.Struct):
    good_maxima: list[list[Finite]]
    low_maxima: list[Finite] = []  # older cards have none


class _Card(msgspec.Struct):
    """What is read of a card once its predictor has been loaded."""

    low_threshold: Finite | None
    low_share: Finite | None
    seed: int
    max_epoch: Finite
    classifier: str
    corpus: str
    runs: Count
    diverged_accuracy: Annotated[float, msgspec.Meta(ge=0, le=1)]
    domain: _Domain
    calibration: dict[str, _Calibration]


def check_card(card: Mapping[str, Any]) -> None:
    """Checks a card from a file.

    Raises:
        ValueError: a fact is missing or unfit.
    """
    decode(card, _Card)


def card_of(
    runs: TrainingSet,
    fitted: CrossValidated,
    *,
    settings: Mapping[str, Any],
    corpus: str,
    statistics: Sequence[int],
    setups: Sequence[TrainingSetup],
) -> dict[str, Any]:
    """The card of a predictor.

    Args:
        runs: that it was fitted to.
        fitted: its models with their scores.
        settings: arguments of the predictor.
        corpus: name of the runs.
        statistics: indices of the statistics that belong to the domain.
        setups: how the runs were trained, as far as that is known.
    """
    targets = runs.targets
    diverged = targets.accuracies[[epoch is not None for epoch in runs.diverged]]
    return {
        "format": persistence.FORMAT,
        "signature_version": SIGNATURE_VERSION,
        **settings,
        "corpus": corpus,
        "runs": len(runs),
        "low": int(targets.low.sum()),
        "diverged": len(diverged),
        "populations": sorted({str(name) for name in targets.populations} - {""}),
        "corpus_sha256": fingerprint(runs),
        "times": sorted({model.times[-1] for model in fitted.models}),
        # If no run diverged, the worst final accuracy stands for what such a run would reach.
        "diverged_accuracy": float(np.median(diverged) if len(diverged) else targets.accuracies.min()),
        "domain": describe_domain([history[0.0] for history in runs.histories], statistics, setups),
        "calibration": calibration(runs, fitted),
        "scores": fitted.scores,
    }


def calibration(runs: TrainingSet, fitted: CrossValidated) -> dict[str, Any]:
    """For each kind of models the largest risk of each held-out run, ascending.

    Those of good runs in one list; or in one for each population if these were held out: then runs are not
    exchangeable.
    """
    low, diverged = runs.targets.low, np.array([epoch is not None for epoch in runs.diverged])
    groups = runs.targets.populations if runs.holds_out_populations else np.zeros(len(runs))
    found = {}
    for kind in dict.fromkeys(scores.kind for scores in fitted.held_out):
        largest = max_risk_per_run(
            [scores for scores in fitted.held_out if scores.kind == kind], low, diverged
        )
        good = ~low & (largest > -np.inf)
        maxima = [np.sort(largest[good & (groups == group)]).tolist() for group in np.unique(groups)]
        found[kind] = {
            "good_maxima": maxima,
            "low_maxima": np.sort(largest[low & (largest > -np.inf)]).tolist(),
        }
    return found


def fingerprint(runs: TrainingSet) -> str:
    """Sha256 over all numbers that a fit depends on: equal for a second fit to the same runs."""
    rows = [[_numbers(snapshot) for snapshot in history.values()] for history in runs.histories]
    logged = [
        None if curve is None else [sorted(curve.losses.items()), list(curve.accuracies)]
        for curve in runs.curves
    ]
    has_curves = any(curve is not None for curve in runs.curves)
    content = [rows, runs.targets.accuracies.tolist(), logged if has_curves else []]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _numbers(s: Snapshot) -> list[Any]:
    layers = [list(map(float, row)) for row in s.layers.values()]
    return [s.epoch, s.num_nodes, s.num_edges, *s.statistics, layers, list(s.distances)]
