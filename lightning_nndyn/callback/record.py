"""What was read of a run, what the predictor said of it, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lightning_nndyn.policy import Decision
from lightning_nndyn.predictor import Verdict
from lightning_nndyn.signature import Snapshot

_STATE_VERSION = 1
_UNDECIDED = Decision(stop=False, reason="no verdict yet", epoch=0.0)


@dataclass
class Record:
    """The record of one run.

    Attributes:
        history: snapshots, snapshot 0 first.
        verdicts: the predictor's, earliest first.
        decision: the latest; one to stop is the last.
    """

    history: list[Snapshot] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    decision: Decision = _UNDECIDED

    @property
    def from_start(self) -> bool:
        """Whether the run is on record from before its first step."""
        return bool(self.history) and self.history[0].epoch == 0

    @property
    def time(self) -> float:
        """Time of the last snapshot in epochs; -1 before the first."""
        return self.history[-1].epoch if self.history else -1.0

    def state_dict(self) -> dict[str, Any]:
        """Numbers, strings, lists and dicts only: a checkpoint loads with ``weights_only=True``."""
        return {
            "version": _STATE_VERSION,
            "history": [snapshot.to_dict() for snapshot in self.history],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "decision": asdict(self.decision),
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Record:
        """The inverse of `state_dict`.

        Raises:
            ValueError: if the state is of another version.
        """
        if state.get("version") != _STATE_VERSION:
            raise ValueError(
                f"the checkpoint's record of this run has version {state.get('version')}, this release reads "
                f"version {_STATE_VERSION}: resume with the release that wrote it, or train from the start"
            )
        return cls(
            [Snapshot.from_dict(snapshot) for snapshot in state["history"]],
            [Verdict(**verdict) for verdict in state["verdicts"]],
            Decision(**state["decision"]),
        )
