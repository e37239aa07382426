"""What the trials of a sweep on Ray share: the ended runs and the predictors fitted to them, in one actor.

A detached actor on the head node: it outlives the trials, workers and nodes that come and go. It keeps a
journal beside itself, and reads it again should its process die.
"""

from __future__ import annotations

import json
import math
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_nndyn.errors import MissingExtraError
from lightning_nndyn.sweep import MAX_FITTED_RUNS, SweepReading, SweepRun

try:
    import ray as ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise MissingExtraError("ray", "ray", "A sweep on Ray") from error

NAMESPACE = "lightning-nndyn"
_HEAD = "node:__internal_head__"  # a resource that Ray gives to the head node alone

EncodedReading = tuple[float, Sequence[float], Sequence[float], float | None]
EncodedRun = tuple[Mapping[str, Any], Sequence[EncodedReading], float | None, bool, float]


class SweepActor:
    """The ended runs of one sweep, in the order in which they ended, and predictors fitted to them.

    Only the latest finished runs keep their parameters and readings, as no more are used in a fit.

    Args:
        journal: file that ended runs are added to; those that it holds are read.
    """

    def __init__(self, journal: str) -> None:
        self._journal = Path(journal)
        self._runs: list[EncodedRun] = []
        self._trials: set[str] = set()
        self._complete: list[int] = []  # indices of the finished runs that are kept in full
        self._predictors: dict[str, tuple[int, bytes]] = {}
        for line in self._journal.read_text().splitlines() if self._journal.exists() else []:
            self._add(*json.loads(line))

    def add(self, trial: str, run: EncodedRun) -> None:
        """Add a run that has ended; one of a trial that has already ended is passed over."""
        if trial not in self._trials:
            with self._journal.open("a") as file:
                file.write(json.dumps([trial, run]) + "\n")
            self._add(trial, run)

    def since(self, count: int) -> list[EncodedRun]:
        """The ended runs after the first `count`."""
        return self._runs[count:]

    def predictors(self) -> dict[str, bytes]:
        """The pickled predictors, by name."""
        return {name: predictor for name, (_, predictor) in self._predictors.items()}

    def add_predictor(self, name: str, num_finished: int, predictor: bytes) -> None:
        """Keep a pickled predictor, unless there is one that was fitted to more finished runs."""
        if num_finished > self._predictors.get(name, (0, b""))[0]:
            self._predictors[name] = num_finished, predictor

    def close(self) -> None:
        """Remove the journal."""
        self._journal.unlink(missing_ok=True)

    def _add(self, trial: str, run: EncodedRun) -> None:
        self._trials.add(trial)
        _, _, value, stopped, _ = run
        if stopped or value is None:
            self._runs.append(({}, (), None, stopped, 1.0))
            return
        self._complete.append(len(self._runs))
        self._runs.append(run)
        if len(self._complete) > MAX_FITTED_RUNS:
            oldest = self._complete.pop(0)
            self._runs[oldest] = {}, (), self._runs[oldest][2], False, 1.0


def actor_of(sweep: str) -> Any:
    """The actor of a sweep, created if there is none."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    head = next(node["NodeID"] for node in nodes if node["Alive"] and _HEAD in node["Resources"])
    options = {
        "name": sweep,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 3,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(head, soft=False),
    }
    journal = Path(tempfile.gettempdir()) / f"nndyn-sweep-{uuid.uuid4().hex}.jsonl"
    return ray.remote(SweepActor).options(**options).remote(str(journal))


def encode_run(run: SweepRun) -> EncodedRun:
    """An ended run as tuples, which pickle and JSON keep small."""
    readings = [(one.time, one.weights, one.curve, one.prior_prediction) for one in run.readings]
    value = run.value if run.value is not None and math.isfinite(run.value) else None
    return run.params, readings, value, run.stopped, run.weight


def decode_run(encoded: EncodedRun) -> SweepRun:
    """The inverse of `encode_run`."""
    params, readings, value, stopped, weight = encoded
    decoded = [
        SweepReading(at, tuple(weights), tuple(curve), prior) for at, weights, curve, prior in readings
    ]
    return SweepRun(params, decoded, value, stopped, weight)


def flat_params(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The hyperparameters in a trial's configuration; nested names are joined by slashes.

    Lists are taken as texts. What is neither number, text, truth value nor None is left out.
    """
    params: dict[str, Any] = {}
    for name, value in config.items():
        value = value.item() if getattr(value, "ndim", None) == 0 else value  # NumPy's, torch's
        if isinstance(value, Mapping):
            params |= flat_params(value, f"{prefix}{name}/")
        elif isinstance(value, list | tuple):
            params[prefix + name] = str(value)
        elif value is None or isinstance(value, bool | int | float | str):
            params[prefix + name] = value
    return params
