"""Whether predictors keep the promised false-stop rate, and what 30 runs of one's own sweep teach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation.benchmark.judged_runs import (
    METHODS,
    RATE,
    UNIVERSAL,
    JudgedRun,
    fit_without,
    held_out_folds,
    judge,
)
from lightning_nndyn.evaluation.benchmark.scores import Row, mean_score, repeated_score, share_score
from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.evaluation.fit_corpora import LOW_SHARE
from lightning_nndyn.predictor import Predictor
from lightning_nndyn.predictor.policy import Policy
from lightning_nndyn.signature.snapshot import Mask

FALSE_STOPS, TRUE_STOPS = "false_stop_rate", "true_stop_rate"
"""Metrics: the shares of good and of low runs that are stopped."""

IF_KNOWN = "_if_known"
"""Suffix of these metrics for a policy that takes all runs to be in domain."""

AS_SHIPPED = "_as_shipped"
"""Suffix for the shipped policy: strictest threshold, and runs out of domain are not stopped."""

BRIER, RELIABILITY, NUM_BINS = "brier", "low_share_at_p_", 5
"""Metrics of the probability of ending low: Brier score, and the share of low runs in each of five bins of
the probability (the name ends with the middle of the bin)."""

_SPLITS = 200
_MIN_RUNS = 30
_PROBABILITY_TIMES = (0.25, 1.0)
_LAST_TIME = 5.0  # decisions up to this epoch are taken together

OWN_SWEEP = "own sweep"
"""Band of rows on a sweep whose predictor was fitted to some of its own runs."""

_NUM_OWN, _DRAWS = 30, 5
_MIN_OTHERS = 30
_OWN_TIMES = (0.25, 1.0, 3.0)  # decision times, in epochs


# -- runs of a known population


def split_rows(runs: RunDataset, seed: int = 0) -> Iterator[Row]:
    """Stop rates of runs that neither the models nor the calibration have seen.

    Each run is judged by a predictor that was fitted to the other four folds. Two rates are measured: that of
    the predictor's own policy, as shipped; and that of a threshold calibrated on a random half of the good
    runs and applied to the other half, over 200 splits, which tests the calibration by itself.

    Args:
        runs: of one corpus.
        seed: of folds, fits and splits.
    """
    random = np.random.default_rng(seed)
    for kind, judged in _held_out(runs, seed).items():
        method, rates = METHODS[kind], defaultdict[str, list[float]](list)
        for _ in range(_SPLITS):
            for metric, rate in _split_rates(judged, random):
                rates[metric].append(rate)
        for metric, values in rates.items():
            score = repeated_score(values)
            yield Row.from_score(runs.name, "all", method, _LAST_TIME, metric, score, len(judged))
        yield from _stop_rates(judged, runs.name, "all", method, AS_SHIPPED)
        for time in _PROBABILITY_TIMES:
            yield from _probability_rows(judged, runs.name, method, time)


def _held_out(runs: RunDataset, seed: int) -> dict[str, list[JudgedRun]]:
    """All runs by the kind of models, each judged by a predictor fitted without its configuration."""
    judged: dict[str, list[JudgedRun]] = {kind: [] for kind in METHODS}
    for test in held_out_folds(runs, seed):
        predictor, held_out = fit_without(runs, test, seed), runs.take(test)
        for kind, found in judged.items():
            found += judge(predictor, held_out, kind)
    return judged


def _split_rates(judged: Sequence[JudgedRun], random: np.random.Generator) -> Iterator[tuple[str, float]]:
    good = [run for run in judged if not run.low]
    order = random.permutation(len(good))
    calibration, new = ([good[index] for index in half] for half in np.array_split(order, 2))
    risks = [_max_risk(run) for run in calibration]
    threshold = Policy({"any": [risks]}, RATE).risk_threshold("any")
    if threshold is None or not new:
        return
    yield FALSE_STOPS, float(np.mean([_max_risk(run) > threshold for run in new]))
    low = [run for run in judged if run.low]
    if low:
        yield TRUE_STOPS, float(np.mean([_max_risk(run) > threshold for run in low]))


def _max_risk(run: JudgedRun) -> float:
    # A run that diverged is stopped whatever the threshold.
    return max((1e6 if verdict.diverged else verdict.risk for verdict in run.verdicts), default=-np.inf)


def _stop_rates(
    judged: Sequence[JudgedRun],
    corpus: str,
    band: str,
    method: str,
    suffix: str = "",
    time: float = _LAST_TIME,
) -> Iterator[Row]:
    """The shares of good and of low runs that are stopped by a time."""
    stopped = np.array([run.stopped for run in judged])
    low = np.array([run.low for run in judged])
    for metric, members in ((FALSE_STOPS, ~low), (TRUE_STOPS, low)):
        if members.any():
            yield _share_row(corpus, band, method, time, metric + suffix, stopped[members])


def _probability_rows(judged: Sequence[JudgedRun], corpus: str, method: str, time: float) -> Iterator[Row]:
    """How well calibrated the probabilities of ending low are that verdicts at a time give."""
    pairs = [(verdict.p_low, run.low) for run in judged for verdict in run.verdicts if verdict.epoch == time]
    probabilities, low = np.array(pairs, dtype=np.float64).T
    # The constant prediction of the share of low runs is what a useful probability must beat.
    for metric, predicted in ((BRIER, probabilities), (f"{BRIER}_of_share", low.mean())):
        score = mean_score((predicted - low) ** 2)
        yield Row.from_score(corpus, "all", method, time, metric, score, len(low))
    bins = np.minimum((probabilities * NUM_BINS).astype(int), NUM_BINS - 1)
    for number in range(NUM_BINS):
        if (bins == number).any():
            metric = f"{RELIABILITY}{(number + 0.5) / NUM_BINS:g}"
            yield _share_row(corpus, "all", method, time, metric, low[bins == number] > 0)


# -- populations, data sets and optimizers that the predictor does not know


def left_out(union: RunDataset) -> Iterator[tuple[str, Mask]]:
    """Each population, data set and optimizer that can be left out, with a mask of its runs.

    Args:
        union: the runs of all corpora.
    """
    traits = {
        "": union.populations,
        "data set ": union.datasets,
        "optimizer ": np.array([training.optimizer or "" for training in union.trainings]),
    }
    for kind, values in traits.items():
        for value in np.unique(values):
            out = values == value
            if len(np.unique(values)) > 1 and min(out.sum(), (~out).sum()) >= _MIN_RUNS:
                yield f"without {kind}{value}", out


def unknown_rows(
    union: RunDataset, out: Mask, band: str, own: RunDataset | None = None, seed: int = 0
) -> Iterator[Row]:
    """Rates and errors on runs that were left out, by a predictor fitted to all other runs.

    Rows give the share of runs that is out of domain after 1/4 and after one epoch, the errors on runs in and
    out of domain, and the shares of good and low runs that are stopped; the latter also as they would be if
    all runs were in domain. No rows if a predictor cannot be fitted to the others.

    Args:
        union: the runs of all corpora.
        out: the runs to leave out; shape [n].
        band: of the rows.
        own: the corpus that `out` consists of, if it is one: the predictor then also serves for `own_rows`.
        seed: of the fit.
    """
    try:
        predictor = union.take(~out).fit(Predictor(low_share=LOW_SHARE, seed=seed))
    except PredictorError:
        return
    policy, tested = Policy.from_predictor(predictor, max_false_stop_rate=RATE), union.take(out)
    for kind, method in METHODS.items():
        judged = judge(predictor, tested, kind)
        for time in _PROBABILITY_TIMES:
            yield from _domain_rows(judged, band, method, time)
        known = [_as_in_domain(run, policy) for run in judged]
        for suffix, taken in (("", judged), (IF_KNOWN, known)):
            yield from _stop_rates(taken, UNIVERSAL, band, method, suffix, predictor.times[-1])
    if own is not None:
        yield from own_rows(union, own, predictor, seed=seed)


def _as_in_domain(run: JudgedRun, policy: Policy) -> JudgedRun:
    verdicts = [replace(verdict, in_domain=True) for verdict in run.verdicts]
    return run._replace(verdicts=verdicts, stopped=policy.decide(verdicts).stop)


def _domain_rows(judged: Sequence[JudgedRun], band: str, method: str, time: float) -> Iterator[Row]:
    pairs = [(verdict, run) for run in judged for verdict in run.verdicts if verdict.epoch == time]
    if not pairs:
        return
    flagged = np.array([not verdict.in_domain for verdict, _ in pairs])
    yield _share_row(UNIVERSAL, band, method, time, "flagged_share", flagged)
    errors = np.array([abs((verdict.relative_accuracy or 0) - run.relative) for verdict, run in pairs])
    for metric, members in (("mae_relative_known", ~flagged), ("mae_relative_flagged", flagged)):
        if members.any():
            score = mean_score(errors[members])
            yield Row.from_score(UNIVERSAL, band, method, time, metric, score, int(members.sum()))


def _share_row(corpus: str, band: str, method: str, time: float, metric: str, hits: Mask) -> Row:
    return Row.from_score(corpus, band, method, time, metric, share_score(hits), len(hits))


# -- a sweep of one's own


def own_rows(
    union: RunDataset, own: RunDataset, universal: Predictor | None = None, seed: int = 0
) -> Iterator[Row]:
    """Errors and rank correlations on a sweep, by a predictor of 30 of its runs and by one of other corpora.

    Both are tested on the rest of the sweep, for five draws of the 30. No rows for a sweep of fewer than 60
    runs, or without other corpora.

    Args:
        union: the runs of all corpora.
        own: the runs of the sweep.
        universal: a predictor fitted to all other populations; None fits one.
        seed: of the fits, and of the draws.
    """
    elsewhere = ~np.isin(union.populations, np.unique(own.populations))
    if elsewhere.sum() < _MIN_OTHERS or len(own.records) < 2 * _NUM_OWN:
        return
    if universal is None:
        universal = _early_predictor(union.take(elsewhere), seed)
    by_universal = judge(universal, own, "fused")
    random = np.random.default_rng(seed)
    values = defaultdict[tuple[str, float, str], list[float]](list)
    for draw in range(_DRAWS):
        order = random.permutation(len(own.records))
        taught, rest = order[:_NUM_OWN], order[_NUM_OWN:]
        try:
            by_own = judge(_early_predictor(own.take(taught), seed + draw), own.take(rest), "fused")
        except PredictorError:  # too few low or good runs among the 30
            continue
        for name, judged in (("own-30", by_own), (UNIVERSAL, [by_universal[index] for index in rest])):
            for time, metric, value in _metrics(judged):
                values[name, time, metric].append(value)
    for (name, time, metric), found in values.items():
        score, runs = repeated_score(found), len(own.records) - _NUM_OWN
        yield Row.from_score(own.name, OWN_SWEEP, name, time, metric, score, runs)


def _early_predictor(runs: RunDataset, seed: int) -> Predictor:
    """A predictor for the decision times that are compared, which is quicker to fit."""
    return runs.fit(Predictor(low_share=LOW_SHARE, seed=seed, max_epoch=_OWN_TIMES[-1]))


def _metrics(judged: Sequence[JudgedRun]) -> Iterator[tuple[float, str, float]]:
    from scipy.stats import spearmanr

    for time in _OWN_TIMES:
        pairs = [
            (verdict.relative_accuracy or 0.0, run.relative)
            for run in judged
            for verdict in run.verdicts
            if verdict.epoch == time and not verdict.diverged
        ]
        predicted, truth = np.array(pairs).T
        yield time, "mae_relative", float(np.abs(predicted - truth).mean())
        if np.ptp(predicted) > 0:
            yield time, "spearman", float(spearmanr(predicted, truth).statistic)
