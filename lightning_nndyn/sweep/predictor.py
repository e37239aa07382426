"""The predictor that learns from a sweep's own finished runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import stdtr

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor.policy import Decision, Policy, epochs_in_words, good_runs_needed
from lightning_nndyn.signature.snapshot import Array
from lightning_nndyn.sweep.cohort_rule import CohortRule
from lightning_nndyn.sweep.false_stop_budget import agreed_scores, good_value, stop_threshold
from lightning_nndyn.sweep.features import GROUPS, RankTransform, RunFeatures
from lightning_nndyn.sweep.gaussian_process import NUM_HYPERPARAMETERS, GaussianProcess, one_blas_thread
from lightning_nndyn.sweep.run import SweepRun

MIN_STARTUP_TRIALS = 5
"""Finished runs below which no Gaussian process can be fitted."""

MAX_FITTED_RUNS = 200
"""Finished runs that a fit uses, the latest ones: its cost grows with their cube."""

_GROWTH = 0.1  # share of new finished runs that makes another fit worthwhile
_TIME_RATIO = 1.2  # between two times that have a Gaussian process of their own, at least


@dataclass(frozen=True)
class SweepForecast:
    """Prediction of how a run will end, learned from the sweep's finished runs.

    Attributes:
        value: the metric's predicted final value.
        p_good: probability that the run ends among the best; of the two latest readings' the larger one.
        time: of the reading that the prediction uses; 0 if it uses hyperparameters alone.
        threshold: runs with a lower `p_good` are stopped; 0 if no threshold keeps the budget.
        num_finished: runs that the predictor was fitted to.
        num_good: how many of them are among the best.
        good_value: the metric's value that makes a run one of the best.
        inputs: the groups of features that are used, of `GROUPS`; uninformative ones are left out.
    """

    value: float
    p_good: float
    time: float
    threshold: float
    num_finished: int
    num_good: int
    good_value: float
    inputs: tuple[str, ...]

    @property
    def stop(self) -> bool:
        """Whether the run may be stopped within the budget."""
        return self.p_good < self.threshold


@dataclass(frozen=True)
class _TimeModel:
    """What was fitted for one time."""

    features: RunFeatures
    process: GaussianProcess

    @classmethod
    def fit(
        cls, runs: Sequence[SweepRun], time: float, targets: Array, before: _TimeModel | None
    ) -> _TimeModel:
        features = RunFeatures(runs, time)
        scales = None if before is None else before.process.scales
        return cls(features, GaussianProcess.fit(features(runs), targets, scales))

    def predict(self, runs: Sequence[SweepRun]) -> tuple[Array, Array]:
        """Means and standard deviations of new runs' targets, shape [runs] each."""
        return self.process.predict(self.features(runs))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The groups of features that are informative."""
        parts = zip(GROUPS, self.process.scales, self.process.groups, strict=True)
        return tuple(name for name, scale, group in parts if scale and group.shape[1])


class SweepPredictor:
    """Predicts how a sweep's next runs will end, and which may be stopped, from those that have finished.

    A Gaussian process for each time at which runs are read, on hyperparameters, the weights' movement, the
    learning curve and the predictions of a predictor fitted elsewhere; leave-one-out decides which of these
    are used. Any metric will do, as runs are compared by ranks. A run is stopped where two readings in turn
    agree, of which the first may be the hyperparameters. The false-stop budget is calibrated on the sweep's
    own runs, each predicted from the others, over all times together; the runs that have been stopped spend
    it. There is no guarantee for runs unlike those that have finished, such as those of a sampler that moves
    on: let some runs finish that would be stopped (``audit_share``).

    Two rules can stop a run. With `keep`, the best runs of each rung go on (`CohortRule`), from the third run
    on: cheap, and nothing is promised of any one run. Without it, what is promised is that good runs are
    kept, and no run is stopped before enough have finished.

    Args:
        direction: whether large or small values of the metric are good.
        n_startup_trials: runs that must have finished before the first prediction, 5 at least.
        good_share: the best share of all runs, of which none is to be stopped where `keep` is None.
        max_false_stop_rate: share of those that may be stopped by mistake; None for the callback's, and for
            0.05 without one.
        keep: the share of all runs that is trained to the end, such as 0.08; None to keep good runs.

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
        keep: float | None = None,
    ) -> None:
        if direction not in ("maximize", "minimize"):
            raise PredictorError(f"direction={direction!r}: it is 'maximize' or 'minimize'")
        if n_startup_trials < MIN_STARTUP_TRIALS:
            raise PredictorError(f"n_startup_trials={n_startup_trials}: take {MIN_STARTUP_TRIALS} or more")
        if not 0 < good_share < 1:
            raise PredictorError(f"good_share={good_share} is not in (0, 1); give a share such as 0.25")
        self._rate = 0.05 if max_false_stop_rate is None else max_false_stop_rate
        Policy({}, self._rate)  # checks it
        self.direction = direction
        self.n_startup_trials = n_startup_trials
        self.good_share = good_share
        self.max_false_stop_rate = max_false_stop_rate
        self.keep = keep
        self._rule = None if keep is None else CohortRule(keep)
        self._others: Sequence[SweepRun] = ()
        self._num_finished = 0
        self._models: dict[float, _TimeModel] = {}

    def unfitted(self, max_false_stop_rate: float | None = None) -> SweepPredictor:
        """An unfitted predictor with the same settings.

        Args:
            max_false_stop_rate: taken where this one has none of its own.
        """
        own = self.max_false_stop_rate
        return SweepPredictor(
            direction=self.direction,
            n_startup_trials=self.n_startup_trials,
            good_share=self.good_share,
            max_false_stop_rate=max_false_stop_rate if own is None else own,
            keep=self.keep,
        )

    def fit(self, runs: Sequence[SweepRun]) -> SweepPredictor:
        """Learn from the runs so far, unless hardly any have finished since the last fit.

        Args:
            runs: all of the sweep, in any state; those that go on are passed over. Of more than 200 finished
                ones the latest are used.

        Returns:
            Itself.
        """
        self._others = runs
        finished = [run for run in runs if run.finished]
        enough = max(self.n_startup_trials, self._num_finished * (1 + _GROWTH) + 1)
        if len(finished) < enough:
            return self
        num_stopped = sum(run.stopped for run in runs)
        self._num_finished = len(finished)
        num_ended = (len(finished) + num_stopped) * min(1.0, MAX_FITTED_RUNS / len(finished))
        with one_blas_thread():
            self._fit(finished[-MAX_FITTED_RUNS:], round(num_ended))
        return self

    @property
    def ready(self) -> bool:
        """Whether enough runs have finished."""
        return bool(self._models)

    @property
    def decides(self) -> bool:
        """Whether it decides on runs: at once with `keep`, else when enough have finished."""
        return self._rule is not None or self.ready

    @property
    def num_finished(self) -> int:
        """How many runs had finished at the last fit; 0 before the first."""
        return self._num_finished

    def forecast(self, run: SweepRun) -> SweepForecast | None:
        """Predict from its latest reading how a run will end; None before enough runs have finished."""
        if not self.ready:
            return None
        times = sorted({0.0, *(reading.time for reading in run.readings if reading.time in self._models)})
        predictions = [self._models[time].predict([run]) for time in times[-2:]]
        scores = [float((means[0] - self._boundary) / stds[0]) for means, stds in predictions]
        # Hyperparameters alone stop a run only in a sweep in which nothing else is read.
        alone = len(times) == 1 and len(self._models) > 1
        time, model = times[-1], self._models[times[-1]]
        return SweepForecast(
            value=self._sign * float(self._ranks.inverse(predictions[-1][0])[0]),
            p_good=float(self._chances(np.array(max(scores)))),
            time=time,
            threshold=0.0 if alone else self._threshold,
            num_finished=len(self._good),
            num_good=int(self._good.sum()),
            good_value=self._sign * self._good_value,
            inputs=model.inputs,
        )

    def decide(self, run: SweepRun, forecast: SweepForecast | None = None) -> Decision:
        """Decide whether a run may be stopped, with the reason.

        Args:
            run: the run.
            forecast: what `forecast` has returned for this run, if it was called already.
        """
        if self._rule is not None:
            return self._rule.decide(run, self._others)
        forecast = forecast or self.forecast(run)
        if forecast is None:
            wait = f"{self.n_startup_trials} runs of this sweep must have finished first"
            return Decision(False, f"goes on: {wait}", max((r.time for r in run.readings), default=0.0))
        return Decision(forecast.stop, self._reason(forecast), forecast.time)

    def __getstate__(self) -> dict[str, Any]:
        """Without the sweep's runs, which every process has from its tuner."""
        return {**self.__dict__, "_others": ()}

    # -- fitting ---------------------------------------------------------------------------------------------

    @property
    def _sign(self) -> float:
        return 1.0 if self.direction == "maximize" else -1.0

    def _fit(self, runs: Sequence[SweepRun], num_ended: int) -> None:
        values = self._sign * np.array([run.value for run in runs], dtype=np.float64)
        self._good_value = good_value(values, self.good_share, num_ended)
        self._good = values >= self._good_value
        self._ranks = RankTransform(values)
        targets = self._ranks(values)
        # The boundary lies between the best run that is not good and the worst good one.
        not_good, worst_good = targets[~self._good], targets[self._good].min()
        self._boundary = float((worst_good + not_good.max()) / 2 if len(not_good) else worst_good)
        models: dict[float, _TimeModel] = {}
        scores = []
        for time in self._times(runs):
            read = np.array([time == 0 or run.at(time) is not None for run in runs])
            read_runs = [run for run, was_read in zip(runs, read, strict=True) if was_read]
            models[time] = _TimeModel.fit(read_runs, time, targets[read], self._models.get(time))
            errors, stds = models[time].process.leave_one_out()
            column = np.full(len(runs), np.nan)
            column[read] = (targets[read] - errors - self._boundary) / stds
            scores.append(column)
        self._models = models
        weights = np.array([run.weight for run in runs])
        self._threshold = self._calibrate(np.stack(scores, axis=1), weights, num_ended - len(runs))

    def _calibrate(self, scores: Array, weights: Array, num_stopped: int) -> float:
        """The probability of being good below which runs are stopped."""
        scores = agreed_scores(scores)
        chances = self._chances(scores)
        threshold = stop_threshold(scores, chances, self._good, self._rate, weights, num_stopped)
        return float(self._chances(np.array(threshold)))

    def _times(self, runs: Sequence[SweepRun]) -> list[float]:
        """0, and times at which enough of the finished runs were read, at ever larger distances."""
        counts: dict[float, int] = {}
        for run in runs:
            for reading in run.readings:
                counts[reading.time] = counts.get(reading.time, 0) + 1
        times = [0.0]
        for time in sorted(counts):
            if counts[time] >= self.n_startup_trials and time >= _TIME_RATIO * times[-1]:
                times.append(time)
        return times

    def _chances(self, scores: Array) -> Array:
        """Probabilities of being good, by Student's distribution, as runs are few.

        Args:
            scores: predicted distance above the boundary, in standard deviations.
        """
        return np.asarray(stdtr(max(2, len(self._good) - NUM_HYPERPARAMETERS), scores))

    # -- in words --------------------------------------------------------------------------------------------

    def _reason(self, forecast: SweepForecast) -> str:
        """The decision in one sentence, with the numbers behind it."""
        when = f"after {epochs_in_words(forecast.time)}" if forecast.time else "before training"
        chance = (
            f"predicted final value {forecast.value:.4g}, chance {forecast.p_good:.2%} to be among the best "
            f"{self.good_share:.0%} of this sweep ({forecast.good_value:.4g} or better)"
        )
        inputs = ", ".join(forecast.inputs) or "values alone"
        learned = f"learned from {forecast.num_finished} finished runs by their {inputs}"
        if not forecast.threshold:
            return f"goes on {when}: {chance}; no limit keeps the budget of {self._rate:.0%} yet; {learned}"
        few = forecast.num_good < good_runs_needed(self._rate)
        so_far = f", as far as {forecast.num_good} good runs tell" if few else ""
        limit = f"{forecast.threshold:.2%}, the limit that costs at most {self._rate:.0%} of them{so_far}"
        if forecast.stop:
            return f"{chance} < {limit}, {when}; {learned}"
        return f"goes on {when}: {chance} >= {limit}; {learned}"


def shared_predictor(
    shared: dict[str, Any], template: SweepPredictor, name: str = ""
) -> tuple[threading.RLock, SweepPredictor]:
    """The predictor that all runs of a sweep in this process share, as fitting takes longer than predicting.

    Args:
        shared: what the runs of the sweep share in this process.
        template: has the settings; it is not fitted itself, as another sweep may be given the same one.
        name: distinguishes predictors that read runs in different ways.

    Returns:
        A lock to hold while the predictor is used, as runs may be threads; and the predictor.
    """
    numbers = (template.n_startup_trials, template.good_share, template.max_false_stop_rate, template.keep)
    key = f"predictor {name} {template.direction} {numbers}"
    fresh = threading.RLock(), template.unfitted()
    found: tuple[threading.RLock, SweepPredictor] = shared.setdefault(key, fresh)
    return found
