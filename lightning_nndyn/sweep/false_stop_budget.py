"""The stopping threshold that keeps the budget of good runs that may be stopped by mistake."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from lightning_nndyn.signature.snapshot import Array, Mask

_ROUNDING = 1e-9
_PRIOR = 5  # good runs that the prior variance of their scores counts as


def stop_threshold(
    scores: Array, chances: Array, good: Mask, rate: float, weights: Array | None = None
) -> float:
    """The largest score threshold that satisfies three conditions; runs that score lower may be stopped.

    All are measured on finished runs, each of them predicted from the others (leave-one-out).

    - Of n good runs at most ``rate * (n + 1)`` lie below it (conformal).
    - The next good run's lowest score lies below it with probability `rate`, if such scores are normally
      distributed: the lower end of Student's prediction interval. A sweep has too few good runs for the
      first condition alone.
    - A run that is stopped with a probability p of being good costs p good runs. The costs of all stopped
      runs add up to at most `rate` times the number of good runs.

    Args:
        scores: of each finished run at each time, by rising time; larger is better; NaN where the run was not
            read; shape [runs, times].
        chances: the probabilities of being good that belong to the scores, shape [runs, times].
        good: which of the runs are good, shape [runs].
        rate: share of good runs that may be stopped, in [0, 1).
        weights: how many runs each counts as, 1 or more (its inverse probability of finishing), shape [runs];
            None for 1 each.

    Returns:
        -inf where nothing may be stopped.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    lowest, counts = np.nanmin(scores, axis=1)[good], weights[good]
    if rate <= 0 or len(lowest) < 2:
        return -np.inf
    highest = min(_conformal(lowest, counts, rate), _prediction_bound(lowest, counts, rate))
    known = scores[np.isfinite(scores)]
    for threshold in (highest, *np.unique(known[known < highest])[::-1]):
        if _cost(scores, chances, weights, float(threshold)) <= rate * counts.sum() + _ROUNDING:
            return float(threshold)
    return -np.inf


def _conformal(lowest: Array, counts: Array, rate: float) -> float:
    """Largest threshold with at most ``rate * (n + 1)`` good runs below it: the next run counts as good."""
    order = np.argsort(lowest)
    thresholds, below = np.append(lowest[order], np.inf), np.append(0, np.cumsum(counts[order]))
    return float(thresholds[below <= rate * (counts.sum() + 1) + _ROUNDING][-1])


def _prediction_bound(lowest: Array, counts: Array, rate: float) -> float:
    """The quantile `rate` of the next good run's lowest score, by Student's prediction interval.

    Scores are in standard deviations, so their prior variance is 1. For weighted runs, n is Kish's effective
    sample size.
    """
    n = counts.sum() ** 2 / (counts**2).sum()
    mean = np.average(lowest, weights=counts)
    freedom = _PRIOR + n - 1
    variance = (_PRIOR + n * np.average((lowest - mean) ** 2, weights=counts)) / freedom
    return float(mean) + float(stdtrit(freedom, rate)) * float(np.sqrt(variance * (1 + 1 / n)))


def _cost(scores: Array, chances: Array, weights: Array, threshold: float) -> float:
    """The sum of the runs' chances at the time when the threshold stops them."""
    below = np.where(np.isfinite(scores), scores, np.inf) < threshold
    stopped, first = below.any(axis=1), below.argmax(axis=1)
    return float((weights[stopped] * chances[stopped, first[stopped]]).sum())


def good_value(values: Array, share: float, num_ended: int) -> float:
    """The value that makes a run one of the best `share` of all that have ended.

    Args:
        values: of the finished runs, larger is better, shape [n].
        share: in (0, 1).
        num_ended: finished and stopped runs; the latter count as not good.
    """
    num_good = min(len(values), max(1, round(share * num_ended)))
    return float(np.sort(values)[-num_good])
