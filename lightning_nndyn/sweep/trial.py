"""One run's place in a sweep: how it learns of the other runs, and tells them of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lightning_nndyn.sweep.run import Reading, SweepRun


class SweepMember(ABC):
    """What a tuner does for a run that is being trained. Only the first process of a run calls it.

    Attributes:
        direction: whether the metric's large or small values are good.
        params: the run's hyperparameters.
    """

    direction: Literal["maximize", "minimize"]
    params: Mapping[str, Any]

    @property
    def present(self) -> bool:
        """Whether the sweep can be reached from this process."""
        return True

    @property
    def shared(self) -> dict[str, Any]:
        """What the runs of this sweep share in this process; a dict of this one's own unless overridden."""
        found: dict[str, Any] = self.__dict__.setdefault("_shared", {})
        return found

    @abstractmethod
    def runs(self) -> Sequence[SweepRun]:
        """All other runs of the sweep that have ended, in the order in which they began."""

    @abstractmethod
    def note(self, reading: Reading, facts: Mapping[str, Any]) -> None:
        """Keeps what was read of this run where the other runs find it.

        Args:
            reading: the latest.
            facts: JSON-able: `predicted`, the metric's predicted final value (None before anything is
                predicted), `p_good`, `limit`, `stop` and `reason`; `verdict`, which is "stop", "would stop"
                or "go on"; `signature`, the ten numbers of the latest snapshot by their names; `audit`, why
                the run is let finish whatever is decided (empty if it is not); `weight`, see `SweepRun`.
        """

    @abstractmethod
    def end(self, stopped: bool, reason: str) -> BaseException | None:
        """Notes that training has ended.

        Args:
            stopped: whether that was for the prediction.
            reason: of the last decision.

        Returns:
            What is to be raised out of ``trainer.fit`` so that the tuner knows of it; None for nothing.
        """

    def check(self) -> BaseException | None:
        """What `end` has returned, perhaps in another process that this one has started; None if unknown."""
        return None
