"""What a tuner implements so that a run takes part in a sweep."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_nndyn.sweep.run import SweepReading, SweepRun

_NEW_NAMES = {"note": "report", "end": "finish", "check": "pruned", "present": "reachable"}


class SweepMember(ABC):
    """A run's connection to the other runs of its sweep. Only the run's first process calls its methods.

    Attributes:
        direction: whether large or small values of the metric are good.
        params: the run's hyperparameters.
        ckpt_path: checkpoint that the run goes on from, if its tuner has paused it.
        save_to: file for a checkpoint of the run at each reading; None for no checkpoints.
        holds_report: whether a report waits for its checkpoint, see `report_saved`.
    """

    direction: Literal["maximize", "minimize"]
    params: Mapping[str, Any]
    ckpt_path: str | None = None
    save_to: Path | None = None
    holds_report: bool = False

    @property
    def reachable(self) -> bool:
        """Whether the sweep can be reached from this process."""
        return True

    @property
    def shared(self) -> dict[str, Any]:
        """What the sweep's runs share in this process; a dict of this run alone unless overridden."""
        shared: dict[str, Any] = self.__dict__.setdefault("_shared", {})
        return shared

    @abstractmethod
    def runs(self) -> Sequence[SweepRun]:
        """All other runs of the sweep that have ended, in the order in which they began."""

    @abstractmethod
    def report(self, reading: SweepReading, facts: Mapping[str, Any]) -> None:
        """Store a reading of this run where the other runs find it.

        Args:
            reading: the latest.
            facts: JSON-able: `predicted`, the metric's predicted final value (None before there is a
                prediction), `p_good`, `limit`, `stop` and `reason`; `verdict`, which is "stop", "would stop"
                or "go on"; `signature`, the ten numbers of the latest snapshot by their names; `audit`, why
                the run finishes whatever is decided (empty if it does not); `weight`, see `SweepRun`.
        """

    @abstractmethod
    def finish(self, stopped: bool, reason: str) -> BaseException | None:
        """Store how training has ended.

        Args:
            stopped: whether the run was stopped for its prediction.
            reason: of the last decision.

        Returns:
            The exception that tells the tuner of a stopped run, to be raised out of ``trainer.fit``; None for
            nothing.
        """

    def report_saved(self, saved: bool) -> None:  # noqa: B027  # for tuners that pause runs
        """Send the report that waited for a checkpoint.

        Args:
            saved: whether the run is in `save_to`. Where it cannot be saved, it begins anew if it is paused.
        """

    def pruned(self) -> BaseException | None:
        """What `finish` has returned, in this process or in one that it has started; None if unknown."""
        return None

    # -- names of earlier releases ---------------------------------------------------------------------------

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Accept members that implement the methods under their old names, for one release."""
        super().__init_subclass__(**arguments)
        for old, new in _NEW_NAMES.items():
            if old in cls.__dict__ and new not in cls.__dict__:
                warnings.warn(_renamed(cls, old), DeprecationWarning, stacklevel=3)  # beyond ABCMeta
                setattr(cls, new, cls.__dict__[old])

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name not in _NEW_NAMES:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            warnings.warn(_renamed(type(self), name), DeprecationWarning, stacklevel=2)
            return getattr(self, _NEW_NAMES[name])


def _renamed(member: type, old: str) -> str:
    return f"{member.__name__}.{old} is now called {_NEW_NAMES[old]}"
