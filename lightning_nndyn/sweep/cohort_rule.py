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
from lightning_nndyn.sweep.standing import StandingModel, chance_among_best, standings

DEFAULT_KEEP = 0.08

_FIRST_TIME = 1 / 8  # epochs
_EXPONENT = 1 / 3  # of the progress: the share that goes on falls early, while epochs are still to be saved
_FEWEST = 3  # runs to compare
_ROUNDING = 1e-9


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
    """

    time: float
    score: float
    std: float
    rank: int
    num_compared: int
    num_begun: int

    @classmethod
    def of(
        cls,
        run: SweepRun,
        others: Sequence[SweepRun],
        fewest: int = _FEWEST,
        model: StandingModel | None = None,
    ) -> Standing | None:
        """Compare a run by its latest reading, if that is the first one of a rung.

        Args:
            run: goes on so far.
            others: the other runs of the sweep, in any state, with all that was read of them.
            fewest: runs that must have been read at this time, this one included.
            model: None for the one that ships.

        Returns:
            None where no rung is reached, or too few runs were read at this time.
        """
        begun = [other for other in others if other.readings]
        if not reaches_rung([reading.time for reading in run.readings]):
            return None
        time = run.readings[-1].time
        cohort = [other for other in begun if other.at(time) is not None]
        if len(cohort) + 1 < fewest:
            return None
        means, stds = standings([*cohort, run], time, model)
        rank = 1 + int(np.sum(means > means[-1]))
        return cls(time, float(means[-1]), float(stds[-1]), rank, len(means), len(begun) + 1)

    def chance_among_best(self, share: float) -> float:
        """The probability that the run ends among the best `share` of all runs so far.

        The cohort consists of those that were not stopped before, which were the better ones.
        """
        of_cohort = min(1.0, share * self.num_begun / self.num_compared)
        return chance_among_best(self.score, self.std, of_cohort)

    def __str__(self) -> str:
        """In words."""
        return (
            f"rank {self.rank} of {self.num_compared} runs that were read after {epochs_in_words(self.time)}"
        )


@dataclass(frozen=True)
class CohortRule:
    """Lets the best runs of each rung go on.

    Attributes:
        keep: the share of all runs that is trained to the end. Of the runs that have reached the progress p
            (0..1) of their planned training, the share ``keep ** (p ** (1/3))`` goes on.
        model: that ranks; None for the one that ships.

    Raises:
        PredictorError: `keep` is not between 0 and 1.
    """

    keep: float = DEFAULT_KEEP
    model: StandingModel | None = None

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise PredictorError(
                f"keep={self.keep} is not in (0, 1); give a share such as {DEFAULT_KEEP}, or None"
            )

    def decide(self, run: SweepRun, others: Sequence[SweepRun]) -> Decision:
        """Decide whether a run goes on.

        It does where no rung is reached, fewer than three runs were read at this time, or nobody knows how
        long the run is to be trained.

        Args:
            run: goes on so far.
            others: the other runs of the sweep, in any state, with all that was read of them.
        """
        standing = Standing.of(run, others, model=self.model)
        planned = _planned_epochs(run, others)
        if standing is None or planned is None:
            return _undecided(run)
        limit = self.limit(standing.time / planned, standing.num_begun)
        rule = f"of {standing.num_begun} runs so far the best {limit} go on from there"
        stop = standing.rank > limit
        return Decision(stop, f"{'' if stop else 'goes on: '}{standing}; {rule}", standing.time)

    def limit(self, progress: float, num_begun: int) -> int:
        """How many of the runs that have begun go on from a progress (0..1)."""
        share = self.keep ** (min(1.0, progress) ** _EXPONENT)
        return max(1, math.ceil(share * num_begun - _ROUNDING))


@dataclass(frozen=True)
class ChanceRule:
    """Stops the runs that have hardly a chance to end among the best.

    Attributes:
        good_share: the best share of all runs, of which none is to be stopped.
        max_chance: runs with a smaller chance to be among them are stopped. With the default, less than 5 %
            of the best quarter were stopped in recorded sweeps whose families of networks are not in the
            model's fit (``nndyn evaluate cohort``).
        fewest: runs to compare, the one that is decided on included.
        model: that ranks; None for the one that ships.
    """

    good_share: float = 0.25
    max_chance: float = 0.003
    fewest: int = 5
    model: StandingModel | None = None

    def decide(self, run: SweepRun, others: Sequence[SweepRun]) -> Decision:
        """Decide whether a run goes on; see `CohortRule.decide`."""
        standing = Standing.of(run, others, self.fewest, self.model)
        if standing is None:
            return _undecided(run)
        chance = standing.chance_among_best(self.good_share)
        stop = chance < self.max_chance
        of = f"chance {chance:.2%} to end among the best {self.good_share:.0%}"
        limit = f"{'<' if stop else '>='} {self.max_chance:.2%}"
        return Decision(stop, f"{'' if stop else 'goes on: '}{of} {limit}; {standing}", standing.time)


def reaches_rung(times: Sequence[float]) -> bool:
    """Whether the last of a run's times is the first one of a rung; each rung is twice as late as the last.

    Args:
        times: of its readings so far, in epochs, ascending.
    """
    if not times or times[-1] < _FIRST_TIME:
        return False
    before = [time for time in times[-2:-1] if time >= _FIRST_TIME]
    return not before or math.floor(math.log2(times[-1])) > math.floor(math.log2(before[0]))


def _undecided(run: SweepRun) -> Decision:
    time = run.readings[-1].time if run.readings else 0.0
    when = f"after {epochs_in_words(time)}" if time else "before training"
    return Decision(False, f"goes on {when}: no rung, or too few runs to compare", time)


def _planned_epochs(run: SweepRun, others: Sequence[SweepRun]) -> float | None:
    """Epochs of training, as planned or as long as finished runs were read; None if unknown."""
    if run.planned_epochs is not None and run.planned_epochs > 0:
        return run.planned_epochs
    return max(
        (other.readings[-1].time for other in others if other.finished and other.readings), default=None
    )
