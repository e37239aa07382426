"""What the trials of a sweep on Ray share: the ended runs, and what was learned from them, in one actor.

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

PlainReading = tuple[float, Sequence[float], Sequence[float], float | None]
PlainRun = tuple[Mapping[str, Any], Sequence[PlainReading], float | None, bool, float]


class SweepRuns:
    """The ended runs of one sweep, in the order in which they ended, and predictors fitted to them.

    Only the latest finished runs are kept with parameters and readings, as no more are learned from.

    Args:
        journal: file that ended runs are added to; those that it holds are read.
    """

    def __init__(self, journal: str) -> None:
        self._journal = Path(journal)
        self._runs: list[PlainRun] = []
        self._known: set[str] = set()
        self._finished: list[int] = []  # places of the runs that are kept in full
        self._learned: dict[str, tuple[int, bytes]] = {}
        for line in self._journal.read_text().splitlines() if self._journal.exists() else []:
            self._add(*json.loads(line))

    def end(self, trial: str, run: PlainRun) -> None:
        """Adds a run that has ended; one of a trial that has already ended is passed over."""
        if trial not in self._known:
            with self._journal.open("a") as file:
                file.write(json.dumps([trial, run]) + "\n")
            self._add(trial, run)

    def since(self, seen: int) -> list[PlainRun]:
        """The ended runs but for the first so many."""
        return self._runs[seen:]

    def learned(self) -> dict[str, bytes]:
        """The pickled predictors that `learn` was last given, by their names."""
        return {name: predictor for name, (_, predictor) in self._learned.items()}

    def learn(self, name: str, finished: int, predictor: bytes) -> None:
        """Keeps a predictor for others to begin with, unless there is one fitted to more finished runs."""
        if finished > self._learned.get(name, (0, b""))[0]:
            self._learned[name] = finished, predictor

    def close(self) -> None:
        """Removes the journal."""
        self._journal.unlink(missing_ok=True)

    def _add(self, trial: str, run: PlainRun) -> None:
        self._known.add(trial)
        _, _, value, stopped, _ = run
        if stopped or value is None:
            self._runs.append(({}, (), None, stopped, 1.0))
            return
        self._finished.append(len(self._runs))
        self._runs.append(run)
        if len(self._finished) > MAX_FITTED_RUNS:
            oldest = self._finished.pop(0)
            self._runs[oldest] = {}, (), self._runs[oldest][2], False, 1.0


def actor_of(sweep: str) -> Any:
    """The actor of a sweep, begun if there is none."""
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
    return ray.remote(SweepRuns).options(**options).remote(str(journal))


def plain_of(
    params: Mapping[str, Any],
    readings: Sequence[SweepReading],
    value: float | None,
    stopped: bool,
    weight: float = 1.0,
) -> PlainRun:
    """An ended run as compact tuples."""
    plain = [(one.time, one.weights, one.curve, one.prior_prediction) for one in readings]
    return params, plain, value if value is not None and math.isfinite(value) else None, stopped, weight


def run_of(plain: PlainRun) -> SweepRun:
    """The inverse of `plain_of`."""
    params, readings, value, stopped, weight = plain
    found = [
        SweepReading(time, tuple(weights), tuple(curve), known) for time, weights, curve, known in readings
    ]
    return SweepRun(params, found, value, stopped, weight)


def plain_params(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What can be learned from in a trial's configuration; nested names are joined by slashes.

    Lists are taken as texts, and what is neither number, text, truth value nor None is left out.
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        value = value.item() if getattr(value, "ndim", None) == 0 else value  # NumPy's, torch's
        if isinstance(value, Mapping):
            found |= plain_params(value, f"{prefix}{name}/")
        elif isinstance(value, list | tuple):
            found[prefix + name] = str(value)
        elif value is None or isinstance(value, bool | int | float | str):
            found[prefix + name] = value
    return found
