"""The callback's arguments, checked, as the session of a run takes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lightning_nndyn.callback.monitored_metric import Mode
from lightning_nndyn.graph.tracing.tracer import Topology, check_topology
from lightning_nndyn.predictor import Predictor
from lightning_nndyn.predictor.policy import Policy

_SWEEP_AUDIT_SHARE = 0.05


@dataclass(frozen=True)
class Settings:
    """What a user asks of the callback, with defaults resolved; see `GraphDynamicsCallback`.

    Raises:
        ValueError: if ``action``, ``mode`` or ``topology`` is unknown, ``mode`` comes without ``monitor``, or
            ``layers`` are named for another than the chain.
        PredictorError: if ``max_false_stop_rate``, ``confidence`` or ``threshold`` is out of its range.
    """

    predictor: str | Path | Predictor | None
    action: Literal["stop", "observe"]
    snapshots: tuple[float, ...] | None
    snapshot_every_n_steps: int | None
    monitor: str | None
    mode: Mode | None
    max_false_stop_rate: float
    confidence: float | None
    threshold: float | None
    audit_share: float
    record: bool | str | Path
    earlier_runs: bool
    log_signature: bool
    layers: list[str] | None
    topology: Topology
    strict: bool
    verbose: bool

    def __post_init__(self) -> None:
        if self.action not in ("stop", "observe"):
            raise ValueError(f"action={self.action!r} is unknown: take 'stop' or 'observe'")
        if self.mode not in ("max", "min", None):
            raise ValueError(
                f"mode={self.mode!r} is unknown: take 'max', 'min', or None to guess it by the name"
            )
        if self.mode is not None and self.monitor is None:
            raise ValueError(f"mode={self.mode!r} is that of a metric: name it with monitor=")
        check_topology(self.topology, self.layers)
        Policy({}, self.max_false_stop_rate, self.threshold, confidence=self.confidence)  # checks the three


def resolve_audit_share(
    share: float | None, monitor: str | None, in_sweep: bool, promises: bool = False
) -> float:
    """The audit share, or its default: 0, and more than that in a sweep that promises to keep good runs.

    Raises:
        ValueError: it is out of its range, or there is neither a metric nor a sweep to tell of the outcomes.
    """
    if share is None:
        return _SWEEP_AUDIT_SHARE if promises else 0.0
    if not 0 <= share < 1 or (share and monitor is None and not in_sweep):
        raise ValueError(
            f"audit_share={share} with monitor={monitor!r}: give a share in [0, 1) such as 0.05, "
            "and the metric that tells how the audited runs end (or a trial, whose sweep knows)"
        )
    return share
