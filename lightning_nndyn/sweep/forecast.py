"""What a sweep's own runs say of one that is being trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Forecast:
    """How a run of a sweep is expected to end, as told by those that have finished.

    Attributes:
        value: the metric's final value.
        p_good: probability that it will be among the best.
        time: of the reading that this rests on; 0 where only hyperparameters were known.
        limit: `p_good` below which runs are stopped; 0 where nothing is known that allows a stop.
        finished: runs that this was learned from.
        good: how many of them are among the best.
        bar: the metric's value that makes a run one of the best.
        inputs: what was read, of `GROUPS`; what turned out to tell nothing is left out.
    """

    value: float
    p_good: float
    time: float
    limit: float
    finished: int
    good: int
    bar: float
    inputs: tuple[str, ...]

    @property
    def hopeless(self) -> bool:
        """Whether the run may be stopped within the budget."""
        return self.p_good < self.limit
