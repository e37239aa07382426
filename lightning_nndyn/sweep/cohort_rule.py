"""Stops a run that stands too low among the runs of its sweep that were read at the same time.

Ranking by a model that was fitted to other sweeps needs no finished run: the third trial can be compared with
the first two. Times are compared in rungs, each twice as late as the one before, as in successive halving;
but the rungs begin within the first epoch, and the share that goes on falls with the progress of training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor.policy import Decision, epochs_in_words
from lightning_nndyn.sweep.run import SweepRun
from lightning_nndyn.sweep.standing import standings

DEFAULT_KEEP = 0.1

_FIRST_TIME = 1 / 16  # epochs
_EXPONENT = 1 / 3  # of the progress: the share that goes on falls early, while epochs are still to be saved
_FEWEST = 3  # runs to compare


@dataclass(frozen=True)
class Standing:
    """Where a run stands in its cohort.

    Attributes:
        time: of the readings that are compared, in epochs.
        score: the expected normal score of its final value among the cohort's.
        std: standard deviation of the score.
        rank: 1 for the best.
        num_compared: runs that were read at this time, this one included.
        num_begun: runs of the sweep so far, this one included.
        limit: ranks up to this one go on.
    """

    time: float
    score: float
    std: float
    rank: int
    num_compared: int
    num_begun: int
    limit: int

    @property
    def stop(self) -> bool:
        """Whether the run is stopped."""
        return self.rank > self.limit

    @property
    def decision(self) -> Decision:
        """The decision, with the reason."""
        among = (
            f"rank {self.rank} of {self.num_compared} runs that were read after {epochs_in_words(self.time)}"
        )
        rule = f"of {self.num_begun} runs so far the best {self.limit} go on from there"
        return Decision(self.stop, f"{'' if self.stop else 'goes on: '}{among}; {rule}", self.time)


@dataclass(frozen=True)
class CohortRule:
    """Lets the best runs of each rung go on.

    Attributes:
        keep: the share of all runs that is trained to the end. Of the runs that have reached the progress p
            (0..1) of their planned training, the share ``keep ** (p ** (1/3))`` goes on.

    Raises:
        PredictorError: `keep` is not between 0 and 1.
    """

    keep: float = DEFAULT_KEEP

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise PredictorError(
                f"keep={self.keep} is not in (0, 1); give a share such as {DEFAULT_KEEP}, or None"
            )

    def standing(self, run: SweepRun, others: Sequence[SweepRun]) -> Standing | None:
        """Compare a run by its latest reading, if that is the first one of a rung.

        Args:
            run: goes on so far.
            others: the other runs of the sweep, in any state, with all that was read of them.

        Returns:
            None where nothing is to be decided: no rung is reached, fewer than three runs were read at this
            time, or nobody knows how long the run is to be trained.
        """
        read = [other for other in others if other.readings]
        planned = self._planned(run, read)
        if not self._reaches_rung(run) or planned is None:
            return None
        time = run.readings[-1].time
        cohort = [other for other in read if other.at(time) is not None]
        if len(cohort) + 1 < _FEWEST:
            return None
        means, stds = standings([*cohort, run], time)
        share = self.keep ** (min(1.0, time / planned) ** _EXPONENT)
        return Standing(
            time=time,
            score=float(means[-1]),
            std=float(stds[-1]),
            rank=1 + int(np.sum(means > means[-1])),
            num_compared=len(cohort) + 1,
            num_begun=len(read) + 1,
            limit=max(1, math.ceil(share * (len(read) + 1) - 1e-9)),
        )

    def decide(self, run: SweepRun, others: Sequence[SweepRun]) -> Decision:
        """Decide whether a run goes on; see `standing`."""
        standing = self.standing(run, others)
        if standing is not None:
            return standing.decision
        time = run.readings[-1].time if run.readings else 0.0
        when = f"after {epochs_in_words(time)}" if time else "before training"
        return Decision(False, f"goes on {when}: no rung, or fewer than {_FEWEST} runs to compare", time)

    @staticmethod
    def _reaches_rung(run: SweepRun) -> bool:
        times = [reading.time for reading in run.readings if reading.time >= _FIRST_TIME]
        rungs = [math.floor(math.log2(time)) for time in times[-2:]]
        return len(rungs) == 1 or (len(rungs) == 2 and rungs[1] > rungs[0])

    @staticmethod
    def _planned(run: SweepRun, others: Sequence[SweepRun]) -> float | None:
        """Epochs of training, as planned or as long as finished runs were read; None if unknown."""
        if run.planned_epochs is not None and run.planned_epochs > 0:
            return run.planned_epochs
        lengths = [other.readings[-1].time for other in others if other.finished]
        return max(lengths, default=None)
