"""From a predictor's verdicts to a decision: stop the run or let it go on, and why. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import Predictor, Verdict

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
    epoch: float


@dataclass(frozen=True)
class Policy:
    """Stops a run at the first verdict whose `p_low` exceeds a threshold.

    The threshold is calibrated on runs that ended well (a conformal quantile): such a run is stopped by
    mistake if the largest `p_low` of its course exceeds the threshold, and the largest held-out values of the
    corpus' good runs are known. With n of them, and the new run exchangeable with them, a threshold at the
    (k+1)-th largest is exceeded with probability at most (k+1) / (n+1); k is the largest for which that is
    within `max_false_stop_rate`. This holds for a run that resembles the corpus', at any set of decision
    times, and on average over corpora. The held-out values come from models fitted to four fifths of the
    corpus, so that they are exchangeable only nearly.

    Verdicts out of the predictor's domain never stop. Weights that are not finite stop at any threshold.

    Attributes:
        good_maxima: the largest held-out `p_low` of each good run, from the predictor's card.
        max_false_stop_rate: share of good runs that may be stopped, in [0, 1).
        threshold: used as it is instead of a calibrated one; no promise about good runs then.
        min_epochs: verdicts before this time do not count.

    Raises:
        PredictorError: a rate, threshold or time out of its range.
    """

    good_maxima: Sequence[float] = ()
    max_false_stop_rate: float = 0.05
    threshold: float | None = None
    min_epochs: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_false_stop_rate < 1:
            raise PredictorError(
                f"max_false_stop_rate={self.max_false_stop_rate} is not in [0, 1); give a share such as 0.05"
            )
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise PredictorError(f"threshold={self.threshold} is not a probability; give a number in [0, 1]")
        if not self.min_epochs >= 0:
            raise PredictorError(f"min_epochs={self.min_epochs} is negative; give 0 for no grace period")

    @classmethod
    def of(
        cls,
        predictor: Predictor,
        *,
        max_false_stop_rate: float = 0.05,
        threshold: float | None = None,
        min_epochs: float = 0.0,
    ) -> Policy:
        """Calibrate by the good runs of the predictor's corpus."""
        return cls(
            tuple(predictor.card["calibration"]["good_maxima"]), max_false_stop_rate, threshold, min_epochs
        )

    @property
    def calibrated_threshold(self) -> float | None:
        """`p_low` above which a run stops; None where there are too few good runs to promise the rate."""
        if self.threshold is not None:
            return self.threshold
        return conformal_threshold(self.good_maxima, self.max_false_stop_rate)

    def decide(self, verdicts: Sequence[Verdict]) -> Decision:
        """Decide at the last of a run's verdicts so far, given in the order they came.

        A run that was to be stopped at an earlier verdict still is, for the reason it had then.
        """
        decision = Decision(False, "goes on: there is no verdict yet", 0.0)
        for verdict in verdicts:
            decision = self._judge(verdict)
            if decision.stop:
                break
        return decision

    def _judge(self, verdict: Verdict) -> Decision:
        threshold = self.calibrated_threshold
        if verdict.epoch < self.min_epochs:
            return _go_on(verdict, f"nothing is stopped before {_epochs(self.min_epochs)} (min_epochs)")
        if verdict.diverged:
            reason = f"training has diverged: {verdict.note}, read after {_epochs(verdict.epoch)}"
            return Decision(True, reason, verdict.epoch)
        if not verdict.in_domain:
            return _go_on(verdict, f"the predictor does not know such runs ({verdict.note})")
        if threshold is None:
            return _go_on(verdict, self._too_few())
        above = verdict.p_low > threshold
        p_low, bar = _apart(verdict.p_low, threshold)
        comparison = f"p_low {p_low} {'>' if above else '<='} {bar}, {self._origin()}"
        if above:
            reason = f"{_prediction(verdict)} ({comparison}) after {_epochs(verdict.epoch)}"
            return Decision(True, reason, verdict.epoch)
        return _go_on(verdict, f"{_prediction(verdict)} ({comparison})")

    def _origin(self) -> str:
        if self.threshold is not None:
            return "the threshold that was set"
        return f"the threshold that stops at most {_percent(self.max_false_stop_rate)} of good runs"

    def _too_few(self) -> str:
        rate = self.max_false_stop_rate
        if not rate:
            return "max_false_stop_rate is 0, which no number of runs can promise; it never stops on p_low"
        return (
            f"to stop at most {_percent(rate)} of good runs takes {good_runs_needed(rate)} of them for "
            f"calibration, the predictor's corpus has {len(self.good_maxima)}; it never stops on p_low. "
            "Set a threshold, allow a higher max_false_stop_rate, or fit to more runs"
        )


def conformal_threshold(good_maxima: Sequence[float], rate: float) -> float | None:
    """Value that a new good run's maximum exceeds with probability `rate` at most; None with too few runs."""
    allowed = math.floor(rate * (len(good_maxima) + 1) + _ROUNDING)
    return sorted(good_maxima, reverse=True)[allowed - 1] if allowed else None


def good_runs_needed(rate: float) -> int:
    """Fewest good runs with which a false-stop rate above 0 can be promised at all: 19 for 5 %."""
    return math.ceil(1 / rate - _ROUNDING) - 1


def _go_on(verdict: Verdict, why: str) -> Decision:
    return Decision(False, f"goes on after {_epochs(verdict.epoch)}: {why}", verdict.epoch)


def _prediction(verdict: Verdict) -> str:
    return f"predicted final accuracy {_percent(verdict.predicted_accuracy, 1)}"


def _epochs(epoch: float) -> str:
    return f"{epoch:g} epoch{'' if epoch == 1 else 's'}"


def _percent(share: float, digits: int | None = None) -> str:
    return f"{share * 100:.{digits}f} %" if digits is not None else f"{share * 100:g} %"


def _apart(value: float, bar: float) -> tuple[str, str]:
    """Both numbers with as many digits as tell them apart, two at least."""
    for digits in range(2, 17):
        texts = f"{value:.{digits}f}", f"{bar:.{digits}f}"
        if value == bar or texts[0] != texts[1]:
            break
    return texts
