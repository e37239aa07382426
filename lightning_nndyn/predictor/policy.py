"""From a predictor's verdicts to a decision: stop the run or let it go on, and why. Pure functions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lightning_nndyn._files import Finite
from lightning_nndyn.errors import PredictorError, renamed_arguments
from lightning_nndyn.predictor.predictor import Predictor
from lightning_nndyn.predictor.verdict import Verdict

DEFAULT_RATE = 0.05
"""The share of good runs that may be stopped by mistake, unless another is given."""

# Products such as 0.05 * 20 may fall an ulp short of the whole number they stand for.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Decision:
    """Whether to stop a run.

    Attributes:
        stop: True to stop.
        reason: one sentence with the numbers behind it.
        epoch: time of the verdict that it rests on.
    """

    stop: bool
    reason: str
    epoch: Finite


@renamed_arguments(good_maxima="max_risks_of_good_runs")
@dataclass(frozen=True)
class Policy:
    """Stops a run at the first verdict whose risk exceeds a threshold.

    The threshold is a conformal quantile, calibrated on runs that ended good. Such a run is stopped by
    mistake if the largest of its risks exceeds the threshold, and the largest held-out risk of each good run
    of the corpus is known. Of n such maxima the (k+1)-th largest is exceeded by a new, exchangeable run with
    probability (k+1) / (n+1), on average over corpora; k is the largest for which that is within
    `max_false_stop_rate`. With a `confidence`, k is the largest for which it stays within the rate for that
    share of corpora: P(Bin(n, rate) <= k) <= 1 - confidence. All decision times count together, as it is the
    largest risk that is compared.

    This holds for a run that resembles the corpus'. The held-out risks come from models fitted to four fifths
    of the corpus, so that they are exchangeable only nearly. If whole populations (networks on data sets)
    were held out, the promise is kept for each that has good runs enough: the threshold is the highest that
    any of these asks for. A smaller population, or one unlike all of them, may do worse.

    Verdicts out of the predictor's domain never stop. Weights that are not finite stop at any threshold.

    Attributes:
        max_risks_of_good_runs: for each kind of models the largest held-out risk of each good run, from the
            predictor's card; in groups, and the promise is kept for each group with good runs enough.
        max_false_stop_rate: share of good runs that may be stopped, in [0, 1).
        threshold: of `p_low`, used instead of a calibrated one; nothing is promised about good runs then.
        min_epochs: verdicts before this time do not count.
        confidence: with which the rate is kept, in (0, 1); None for on average.

    Raises:
        PredictorError: a rate, threshold, confidence or time out of its range.
    """

    max_risks_of_good_runs: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    max_false_stop_rate: float = DEFAULT_RATE
    threshold: float | None = None
    min_epochs: float = 0.0
    confidence: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_false_stop_rate < 1:
            raise PredictorError(
                f"max_false_stop_rate={self.max_false_stop_rate} is not in [0, 1); give a share such as 0.05"
            )
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise PredictorError(f"threshold={self.threshold} is not a probability; give a number in [0, 1]")
        if not self.min_epochs >= 0:
            raise PredictorError(f"min_epochs={self.min_epochs} is negative; give 0 for no grace period")
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise PredictorError(f"confidence={self.confidence} is not in (0, 1); give a share such as 0.9")

    @classmethod
    def from_predictor(
        cls,
        predictor: Predictor,
        *,
        max_false_stop_rate: float = DEFAULT_RATE,
        threshold: float | None = None,
        min_epochs: float = 0.0,
        confidence: float | None = None,
    ) -> Policy:
        """Calibrate by the good runs of the predictor's corpus."""
        calibration = predictor.card["calibration"]
        maxima = {kind: tuple(map(tuple, found["good_maxima"])) for kind, found in calibration.items()}
        return cls(maxima, max_false_stop_rate, threshold, min_epochs, confidence)

    def risk_threshold(self, kind: str) -> float | None:
        """Risk above which a run stops, by models of a kind; None if too few good runs are known."""
        groups = self.max_risks_of_good_runs.get(kind, ())
        found = [conformal_threshold(group, self.max_false_stop_rate, self.confidence) for group in groups]
        return max((threshold for threshold in found if threshold is not None), default=None)

    def can_stop(self, kind: str) -> bool:
        """Whether verdicts by models of this kind can stop a run for its risk, not for divergence alone."""
        return self.threshold is not None or self.risk_threshold(kind) is not None

    @classmethod
    def of(cls, predictor: Predictor, **settings: Any) -> Policy:
        """Deprecated: `from_predictor`."""
        _warn_of_old_name("of", "from_predictor")
        return cls.from_predictor(predictor, **settings)

    def calibrated(self, kind: str) -> float | None:
        """Deprecated: `risk_threshold`."""
        _warn_of_old_name("calibrated", "risk_threshold")
        return self.risk_threshold(kind)

    def powerless(self, kind: str) -> bool:
        """Deprecated: the opposite of `can_stop`."""
        _warn_of_old_name("powerless", "can_stop")
        return not self.can_stop(kind)

    @property
    def good_maxima(self) -> Mapping[str, Sequence[Sequence[float]]]:
        """Deprecated: `max_risks_of_good_runs`."""
        _warn_of_old_name("good_maxima", "max_risks_of_good_runs")
        return self.max_risks_of_good_runs

    def decide(self, verdicts: Sequence[Verdict]) -> Decision:
        """Decide at the last of a run's verdicts so far, given in the order they came.

        A run that was to be stopped at an earlier verdict still is, for the reason it had then.
        """
        decision = Decision(False, "goes on: there is no verdict yet", 0.0)
        for verdict in verdicts:
            decision = self._decide_at(verdict)
            if decision.stop:
                break
        return decision

    def _decide_at(self, verdict: Verdict) -> Decision:
        if verdict.epoch < self.min_epochs:
            grace = f"nothing is stopped before {epochs_in_words(self.min_epochs)} (min_epochs)"
            return _go_on(verdict, grace)
        if verdict.diverged:
            reason = f"training has diverged: {verdict.note}, read after {epochs_in_words(verdict.epoch)}"
            return Decision(True, reason, verdict.epoch)
        if not verdict.in_domain:
            return _go_on(verdict, f"the predictor does not know such runs ({verdict.note})")
        if self.threshold is not None:
            return _compared(verdict, "p_low", verdict.p_low, self.threshold, "the threshold that was set")
        threshold = self.risk_threshold(verdict.kind)
        if threshold is None:
            return _go_on(verdict, self._too_few(verdict.kind))
        return _compared(verdict, "risk", verdict.risk, threshold, self._promise())

    def _promise(self) -> str:
        sure = "" if self.confidence is None else f", {_percent(self.confidence)} sure"
        return f"the threshold that stops at most {_percent(self.max_false_stop_rate)} of good runs{sure}"

    def _too_few(self, kind: str) -> str:
        rate = self.max_false_stop_rate
        if not rate:
            return (
                "max_false_stop_rate is 0, which no number of runs can promise; it never stops for its risk"
            )
        most = max(map(len, self.max_risks_of_good_runs.get(kind, ())), default=0)
        return (
            f"to stop at most {_percent(rate)} of good runs takes {good_runs_needed(rate, self.confidence)} "
            f"of them for calibration, the predictor's corpus has {most}; it never stops for its risk. "
            f"{self._advice(most)}"
        )

    def _advice(self, runs: int) -> str:
        if not runs:
            return "Fit to more runs, or set a threshold"
        rate = smallest_rate(runs, self.confidence)
        return (
            f"max_false_stop_rate={rate:g} can be kept with so few; or fit to more runs, or set a threshold"
        )


def _warn_of_old_name(old: str, new: str) -> None:
    warnings.warn(f"Policy.{old} is now called {new}", DeprecationWarning, stacklevel=3)


def conformal_threshold(
    good_maxima: Sequence[float], rate: float, confidence: float | None = None
) -> float | None:
    """Value that a new good run's maximum exceeds with probability `rate` at most; None with too few runs.

    On average over sets of good runs; with a `confidence`, in that share of them.
    """
    allowed = allowed_above(len(good_maxima), rate, confidence)
    return sorted(good_maxima, reverse=True)[allowed - 1] if allowed else None


def allowed_above(runs: int, rate: float, confidence: float | None = None) -> int:
    """How many of the known good runs' maxima may reach the threshold; 0 where there are too few."""
    if confidence is None:
        return math.floor(rate * (runs + 1) + _ROUNDING)
    from scipy.special import bdtr  # takes a while, which importing this package should not

    at_most = bdtr(np.arange(runs), runs, rate)  # P(Bin(runs, rate) <= k), rising
    return int((at_most <= 1 - confidence + _ROUNDING).sum())


def good_runs_needed(rate: float, confidence: float | None = None) -> int:
    """Fewest good runs with which a false-stop rate above 0 can be promised at all.

    19 for 5 % on average, 45 with a confidence of 90 %, 59 with 95 %.
    """
    if confidence is None:
        return math.ceil(1 / rate - _ROUNDING) - 1
    return math.ceil(math.log(1 - confidence) / math.log(1 - rate) - _ROUNDING)


def smallest_rate(runs: int, confidence: float | None = None) -> float:
    """The smallest false-stop rate that can be promised with so many good runs, rounded up to a thousandth.

    Args:
        runs: one at least.
        confidence: with which it is promised; None for on average.
    """
    rate = 1 / (runs + 1) if confidence is None else 1 - (1 - confidence) ** (1 / runs)
    return _rounded_up(rate)


def _rounded_up(rate: float) -> float:
    """To a thousandth: a smaller rate would not be kept."""
    return math.ceil(1000 * rate - _ROUNDING) / 1000


def low_runs_stopped(good_maxima: Sequence[float], low_maxima: Sequence[float], rate: float) -> int:
    """How many low runs have a risk above the threshold of a false-stop rate.

    Args:
        good_maxima: the largest risk of each good run.
        low_maxima: the largest risk of each low run.
        rate: share of good runs that may be stopped.
    """
    threshold = conformal_threshold(good_maxima, rate)
    return 0 if threshold is None else sum(risk > threshold for risk in low_maxima)


def worthwhile_rate(good_maxima: Sequence[float], low_maxima: Sequence[float]) -> float | None:
    """The smallest false-stop rate that stops half of the low runs; None where it is above 1/2."""
    for allowed in range(1, len(good_maxima) // 2 + 1):
        rate = _rounded_up(allowed / (len(good_maxima) + 1))
        if 2 * low_runs_stopped(good_maxima, low_maxima, rate) >= len(low_maxima) > 0:
            return rate
    return None


def _compared(verdict: Verdict, name: str, value: float, threshold: float, origin: str) -> Decision:
    above = value > threshold
    shown, limit = _distinguishable(value, threshold)
    comparison = f"{name} {shown} {'>' if above else '<='} {limit}, {origin}"
    if above:
        reason = f"{_prediction(verdict)} ({comparison}) after {epochs_in_words(verdict.epoch)}"
        return Decision(True, reason, verdict.epoch)
    return _go_on(verdict, f"{_prediction(verdict)} ({comparison})")


def _go_on(verdict: Verdict, why: str) -> Decision:
    return Decision(False, f"goes on after {epochs_in_words(verdict.epoch)}: {why}", verdict.epoch)


def _prediction(verdict: Verdict) -> str:
    return f"predicted final accuracy {_percent(verdict.predicted_accuracy, 1)}"


def epochs_in_words(epoch: float) -> str:
    """A time, as in "0.5 epochs" and "1 epoch"."""
    return f"{epoch:g} epoch{'' if epoch == 1 else 's'}"


def _percent(share: float, digits: int | None = None) -> str:
    return f"{share * 100:.{digits}f} %" if digits is not None else f"{share * 100:g} %"


def _distinguishable(value: float, threshold: float) -> tuple[str, str]:
    """Both numbers as text, with as few digits, but two or more, as make the texts differ."""
    for digits in range(2, 17):
        texts = f"{value:.{digits}f}", f"{threshold:.{digits}f}"
        if value == threshold or texts[0] != texts[1]:
            break
    return texts
