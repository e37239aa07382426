"""The predictor that a sweep's own finished runs teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtr

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor.features import Array
from lightning_nndyn.predictor.policy import Decision, Policy, epochs_in_words
from lightning_nndyn.sweep.blas import one_blas_thread
from lightning_nndyn.sweep.false_stop_budget import limit_of, share_of_best
from lightning_nndyn.sweep.features import GROUPS, Inputs
from lightning_nndyn.sweep.forecast import Forecast
from lightning_nndyn.sweep.gaussian_process import CHOSEN, Process, fit_process
from lightning_nndyn.sweep.rank_transform import NormalScores
from lightning_nndyn.sweep.run import SweepRun

FEWEST = 5
"""Finished runs with which anything can be learned at all."""

MOST = 200
"""Finished runs that are learned from, the latest: the cost grows with their cube."""

_GROWTH = 0.1  # share of new finished runs that makes another fit worthwhile
_APART = 1.2  # times as late as the one before is a time that something is learned for


@dataclass(frozen=True)
class _Moment:
    """What was learned for one time."""

    inputs: Inputs
    process: Process

    @property
    def told_by(self) -> tuple[str, ...]:
        """The groups of inputs that tell anything."""
        parts = zip(GROUPS, self.process.scales, self.process.groups, strict=True)
        return tuple(name for name, scale, group in parts if scale and group.shape[1])


class SweepPredictor:
    """Learns from the finished runs of a sweep how the next ones will end, and which may be stopped.

    A Gaussian process for each time at which runs are read, on hyperparameters, the weights' movement, the
    curve and what a predictor fitted elsewhere says; it finds out by leave-one-out which of these tell
    anything. It works with any metric, as it compares ranks. The false-stop budget is calibrated on the
    sweep's own runs, each judged by the others, over all times together. Nothing is promised for runs unlike
    those that have finished, such as of a sampler that moves on: let some condemned runs finish (audit).

    Args:
        direction: whether the metric's large or small values are good.
        n_startup_trials: finished runs before anything is said, 5 at least.
        good_share: the best share of all runs, of which none is to be stopped.
        max_false_stop_rate: of those the share that may be stopped by mistake; None for the callback's, and
            for 0.05 without one.

    Raises:
        PredictorError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        direction: Literal["maximize", "minimize"] = "maximize",
        n_startup_trials: int = 10,
        good_share: float = 0.25,
        max_false_stop_rate: float | None = None,
    ) -> None:
        if direction not in ("maximize", "minimize"):
            raise PredictorError(f"direction={direction!r}: it is 'maximize' or 'minimize'")
        if n_startup_trials < FEWEST:
            raise PredictorError(f"n_startup_trials={n_startup_trials}: take {FEWEST} or more")
        if not 0 < good_share < 1:
            raise PredictorError(f"good_share={good_share} is not in (0, 1); give a share such as 0.25")
        self._rate = 0.05 if max_false_stop_rate is None else max_false_stop_rate
        Policy({}, self._rate)  # checks it
        self.direction = direction
        self.n_startup_trials = n_startup_trials
        self.good_share = good_share
        self.max_false_stop_rate = max_false_stop_rate
        self._seen = 0
        self._moments: dict[float, _Moment] = {}

    def unlearned(self, max_false_stop_rate: float | None = None) -> SweepPredictor:
        """Another one with the same settings that has learned nothing.

        Args:
            max_false_stop_rate: taken where this one has none of its own.
        """
        own = self.max_false_stop_rate
        return SweepPredictor(
            direction=self.direction,
            n_startup_trials=self.n_startup_trials,
            good_share=self.good_share,
            max_false_stop_rate=max_false_stop_rate if own is None else own,
        )

    def fit(self, runs: Sequence[SweepRun]) -> SweepPredictor:
        """Learns from the runs so far, unless hardly any have finished since the last time.

        Args:
            runs: all of the sweep, in any state; those that go on are passed over. Of more than 200 finished
                ones the latest are used.

        Returns:
            Itself.
        """
        finished = [run for run in runs if run.finished]
        if len(finished) < self.n_startup_trials or len(finished) < self._seen * (1 + _GROWTH) + 1:
            return self
        stopped = sum(run.stopped for run in runs)
        self._seen = len(finished)
        begun = (len(finished) + stopped) * min(1.0, MOST / len(finished))
        with one_blas_thread():
            self._learn(finished[-MOST:], round(begun))
        return self

    @property
    def ready(self) -> bool:
        """Whether enough runs have finished."""
        return bool(self._moments)

    @property
    def learned_from(self) -> int:
        """How many runs had finished when it last learned; 0 before that."""
        return self._seen

    def forecast(self, run: SweepRun) -> Forecast | None:
        """How a run will end, by its latest reading; None before enough runs have finished."""
        if not self.ready:
            return None
        time = max((reading.time for reading in run.readings if reading.time in self._moments), default=0.0)
        moment = self._moments[time]
        means, spreads = moment.process(moment.inputs([run]))
        return Forecast(
            value=self._sign * float(self._scores.inverse(means)[0]),
            p_good=float(self._chances((means - self._bar_score) / spreads)[0]),
            time=time,
            limit=self._limit,
            finished=self._known,
            good=int(self._good.sum()),
            bar=self._sign * self._bar,
            inputs=moment.told_by,
        )

    def decide(self, run: SweepRun) -> Decision:
        """Whether a run may be stopped, and why."""
        said = self.forecast(run)
        if said is None:
            wanted = f"{self.n_startup_trials} runs of this sweep must have finished first"
            return Decision(False, f"goes on: {wanted}", max((r.time for r in run.readings), default=0.0))
        return Decision(said.hopeless, explain(said, self.good_share, self._rate), said.time)

    # -- learning --------------------------------------------------------------------------------------------

    @property
    def _sign(self) -> float:
        return 1.0 if self.direction == "maximize" else -1.0

    def _learn(self, runs: Sequence[SweepRun], begun: int) -> None:
        values = self._sign * np.array([run.value for run in runs], dtype=np.float64)
        self._known = len(runs)
        self._bar = share_of_best(values, self.good_share, begun)
        self._good = values >= self._bar
        self._scores = NormalScores(values)
        targets = self._scores(values)
        # Between the last run below the bar and the first above it.
        below = targets[~self._good]
        lowest = targets[self._good].min()
        self._bar_score = float((lowest + below.max()) / 2 if len(below) else lowest)
        moments: dict[float, _Moment] = {}
        columns = []
        for time in self._times(runs):
            read = np.array([time == 0 or run.at(time) is not None for run in runs])
            those = [run for run, there in zip(runs, read, strict=True) if there]
            moment = _learned(those, time, targets[read], self._moments.get(time))
            moments[time] = moment
            errors, spreads = moment.process.left_out()
            column = np.full(len(runs), np.nan)
            column[read] = (targets[read] - errors - self._bar_score) / spreads
            columns.append(column)
        self._moments = moments
        scores = np.stack(columns, axis=1)
        weights = np.array([run.weight for run in runs])
        limit = limit_of(scores, self._chances(scores), self._good, self._rate, weights)
        self._limit = float(self._chances(np.array(limit)))

    def _times(self, runs: Sequence[SweepRun]) -> list[float]:
        """0, and those at which enough of the finished runs were read, ever farther apart."""
        counts: dict[float, int] = {}
        for run in runs:
            for reading in run.readings:
                counts[reading.time] = counts.get(reading.time, 0) + 1
        chosen = [0.0]
        for time in sorted(counts):
            if counts[time] >= self.n_startup_trials and time >= _APART * chosen[-1]:
                chosen.append(time)
        return chosen

    def _chances(self, scores: Array) -> Array:
        """Probabilities of reaching the bar, with the tails of Student's distribution: runs are few.

        Args:
            scores: how far above the bar runs are expected, in standard deviations.
        """
        return np.asarray(stdtr(max(2, self._known - CHOSEN), scores))


def _learned(runs: Sequence[SweepRun], time: float, targets: Array, before: _Moment | None) -> _Moment:
    inputs = Inputs(runs, time)
    start = None if before is None else before.process.scales
    return _Moment(inputs, fit_process(inputs(runs), targets, start))


def explain(said: Forecast, good_share: float, rate: float) -> str:
    """A forecast in one sentence, with the numbers behind it."""
    when = f"after {epochs_in_words(said.time)}" if said.time else "before training"
    sign = "<" if said.hopeless else ">="
    chance = (
        f"predicted final value {said.value:.4g}, chance {said.p_good:.2%} to be among the best "
        f"{good_share:.0%} of this sweep ({said.bar:.4g} or better)"
    )
    told_by = ", ".join(said.inputs) or "values alone"
    learned = f"learned from {said.finished} finished runs by their {told_by}"
    if not said.limit:
        return f"goes on {when}: {chance}; no limit keeps the budget of {rate:.0%} yet; {learned}"
    limit = f"{sign} {said.limit:.2%}, the limit that costs at most {rate:.0%} of them"
    if said.hopeless:
        return f"{chance} {limit}, {when}; {learned}"
    return f"goes on {when}: {chance} {limit}; {learned}"
