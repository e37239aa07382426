"""How improbable success must be before a run is stopped, so that the budget of good runs is kept."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from lightning_nndyn.predictor.features import Array, Mask

_ROUNDING = 1e-9
_PRIOR = 5  # good runs that the assumption about their scores' variance is worth


def limit_of(scores: Array, chances: Array, good: Mask, rate: float, weights: Array | None = None) -> float:
    """The highest score below which runs may be stopped; the largest that three conditions allow.

    All are counted on finished runs of which each was judged by the others.

    - Of n good runs at most ``rate * (n + 1)`` were stopped, as for a conformal threshold.
    - A sweep has too few good runs for that alone to promise anything. So the next good run's lowest score
      lies below the limit with the probability `rate`, if such scores are normally distributed: the lower
      end of Student's prediction interval.
    - A run that is stopped with a chance p of success costs p good runs: all that are stopped cost at most
      that share of the good ones.

    Args:
        scores: of each finished run at each time, by rising time; larger is better; NaN where it was not
            judged; shape [runs, times].
        chances: probabilities of success that belong to the scores, shape [runs, times].
        good: which of the runs succeeded, shape [runs].
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
    highest = min(_counted(lowest, counts, rate), _next_lowest(lowest, counts, rate))
    known = scores[np.isfinite(scores)]
    for limit in (highest, *np.unique(known[known < highest])[::-1]):
        if _cost(scores, chances, weights, float(limit)) <= rate * counts.sum() + _ROUNDING:
            return float(limit)
    return -np.inf


def _counted(lowest: Array, counts: Array, rate: float) -> float:
    """The highest of the scores below which no more than the rate lie; the next run counts as good, too."""
    order = np.argsort(lowest)
    limits, below = np.append(lowest[order], np.inf), np.append(0, np.cumsum(counts[order]))
    return float(limits[below <= rate * (counts.sum() + 1) + _ROUNDING][-1])


def _next_lowest(lowest: Array, counts: Array, rate: float) -> float:
    """Scores are in standard deviations, so that their variance is 1, give or take, before any is known.

    Runs that count more than once tell less together than as many single ones: n is Kish's effective number.
    """
    n = counts.sum() ** 2 / (counts**2).sum()
    mean = np.average(lowest, weights=counts)
    freedom = _PRIOR + n - 1
    variance = (_PRIOR + n * np.average((lowest - mean) ** 2, weights=counts)) / freedom
    return float(mean) + float(stdtrit(freedom, rate)) * float(np.sqrt(variance * (1 + 1 / n)))


def _cost(scores: Array, chances: Array, weights: Array, limit: float) -> float:
    """The sum of the runs' chances at the time when the limit stops them."""
    below = np.where(np.isfinite(scores), scores, np.inf) < limit
    stopped, first = below.any(axis=1), below.argmax(axis=1)
    return float((weights[stopped] * chances[stopped, first[stopped]]).sum())


def share_of_best(values: Array, share: float, begun: int) -> float:
    """The value that makes a run one of the best `share` of all that have ended.

    Args:
        values: of the finished runs, larger is better, shape [n].
        share: in (0, 1).
        begun: finished and stopped runs; the latter count as worse than the bar.
    """
    wanted = min(len(values), max(1, round(share * begun)))
    return float(np.sort(values)[-wanted])
