"""The stopping threshold that keeps the budget of good runs that may be stopped by mistake."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from lightning_nndyn.signature.snapshot import Array, Mask

_ROUNDING = 1e-9
_FAR = 6.0  # standard deviations below the lowest good run at which the next one is 1 / e times as likely
_PRIOR = 5  # good runs that the prior variance of their scores counts as


def stop_threshold(
    scores: Array,
    chances: Array,
    good: Mask,
    rate: float,
    weights: Array | None = None,
    num_stopped: int | None = None,
) -> float:
    """The largest score threshold that satisfies four conditions; runs that score lower may be stopped.

    All are measured on finished runs, each of them predicted from the others (leave-one-out).

    - Of n good runs at most ``rate * (n + 1)`` lie below it (conformal).
    - The next good run's lowest score lies below it with probability `rate`, if such scores are normally
      distributed: the lower end of Student's prediction interval. A sweep has too few good runs for the
      first condition alone.
    - A run that is stopped with a probability p of being good costs p good runs. The costs of all stopped
      runs add up to at most `rate` times the number of good runs.
    - The good ones among the runs that have been stopped and the next one are at most ``rate * (n + 1)``, if
      they are as often good as the finished runs below the threshold (`_chance_below`).

    Args:
        scores: of each finished run at each time, by rising time; larger is better; NaN where the run was not
            read; shape [runs, times].
        chances: the probabilities of being good that belong to the scores, shape [runs, times].
        good: which of the runs are good, shape [runs].
        rate: share of good runs that may be stopped, in [0, 1).
        weights: how many runs each counts as, 1 or more (its inverse probability of finishing), shape [runs];
            None for 1 each.
        num_stopped: runs that have been stopped so far, whose ends are unknown; None leaves the last
            condition out.

    Returns:
        -inf where nothing may be stopped.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    lowest, counts = np.nanmin(scores, axis=1)[good], weights[good]
    if rate <= 0 or len(lowest) < 2:
        return -np.inf
    highest = min(_conformal(lowest, counts, rate), _prediction_bound(lowest, counts, rate))
    known = scores[np.isfinite(scores)]
    for threshold in map(float, (highest, *np.unique(known[known < highest])[::-1])):
        if _cost(scores, chances, weights, threshold) > rate * counts.sum() + _ROUNDING:
            continue
        chance = _chance_below(threshold, np.nanmin(scores, axis=1), good)
        if num_stopped is None or (num_stopped + 1) * chance <= rate * (len(lowest) + 1) + _ROUNDING:
            return threshold
    return -np.inf


def agreed_scores(scores: Array) -> Array:
    """The larger of the scores of each reading and the one before: a run is stopped where both are low.

    The models of two times err less often together than each by itself.

    Args:
        scores: of each run before training (first column) and at each time, NaN where it was not read.

    Returns:
        Shape of `scores`; the first column holds the scores of runs that were not read at all.
    """
    before = scores[:, 0]
    agreed = []
    for column in scores.T[1:]:
        agreed.append(np.where(np.isnan(column), np.nan, np.fmax(column, before)))
        before = np.where(np.isnan(column), before, column)
    unread = np.isnan(scores[:, 1:]).all(axis=1)
    return np.stack([np.where(unread, scores[:, 0], np.nan), *agreed], axis=1)


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


def _chance_below(threshold: float, lowest: Array, good: Mask) -> float:
    """The chance that a run below a threshold is good, by those that finished: the rule of succession.

    If none of the finished ones is good, the next may still be. How likely that is falls with the distance of
    the threshold from the lowest of the k good runs; at any distance good runs may be of a kind that has not
    finished yet. A kind of unknown share, not seen in k runs, is the next one with a chance of 1 / (k + 2).

    Args:
        threshold: the threshold.
        lowest: each finished run's lowest score, shape [n].
        good: which of them are good, shape [n].
    """
    below, known = lowest < threshold, lowest[good]
    unseen = max(1 / (len(known) + 2), float(np.exp(min(0.0, threshold - known.min()) / _FAR)))
    return float((below[good].sum() + unseen) / (below.sum() + 1))


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
