"""Whether predictors keep what they promise: on runs, networks, data and optimizers that they never saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation.benchmark.compare import Row, folds
from lightning_nndyn.evaluation.benchmark.scores import Score
from lightning_nndyn.evaluation.dataset import Collection
from lightning_nndyn.evaluation.fit_corpora import LOW_SHARE, new_predictor
from lightning_nndyn.predictor import Predictor, Verdict
from lightning_nndyn.predictor.policy import Policy

METHODS = {"weights": "graph-v2", "fused": "fused"}
"""Names of the methods, by the kind of models that the predictors use."""

UNIVERSAL = "universal"
RATE = 0.05
BRIER, RELIABILITY, BINS = "brier", "low_share_at_p_", 5
"""Metrics of probabilities; the latter with the middle of a bin, of which there are so many."""
FALSE_STOPS, TRUE_STOPS = "false_stop_rate", "true_stop_rate"
IF_KNOWN = "_if_known"
"""Ends the names of the same metrics where no run is taken for a stranger."""
AS_SHIPPED = "_as_shipped"
"""Ends them where a predictor's own policy decides: strictest population's threshold, strangers spared."""

_SPLITS = 200
_FEWEST = 30
_INTERVAL = (2.5, 97.5)
_OWN = 30
_OWN_TIMES = (0.25, 1.0, 3.0)
_DRAWS = 5


class Course(NamedTuple):
    """What a predictor said of a run, what became of the run, and whether the predictor's policy stops it."""

    verdicts: Sequence[Verdict]
    accuracy: float
    relative: float
    low: bool
    stopped: bool


def joined(collections: Sequence[Collection]) -> Collection:
    """All runs in one."""
    return Collection(
        UNIVERSAL,
        [one for each in collections for one in each.records],
        [one for each in collections for one in each.histories],
        [one for each in collections for one in each.curves],
        np.concatenate([each.accuracies for each in collections]),
        [one for each in collections for one in each.configurations],
        np.concatenate([each.populations for each in collections]),
        [one for each in collections for one in each.trainings],
        np.concatenate([each.relative for each in collections]),
        {name: value for each in collections for name, value in each.thresholds.items()},
    )


# -- random splits


def split_rows(collection: Collection, seed: int = 0) -> Iterator[Row]:
    """Stop rates of runs that neither models nor calibration have seen, over 200 random splits.

    Every run is judged by a predictor that was fitted to four fifths of the others: once by that predictor's
    own policy, as it ships. And the good runs are dealt out two hundred times into those that set a threshold
    and those that it is tried on: the promise by itself, among runs that are alike.
    """
    random = np.random.default_rng(seed)
    for kind, courses in _unseen(collection, seed).items():
        rates: dict[str, list[float]] = {}
        for _ in range(_SPLITS):
            for metric, rate in _split(courses, random):
                rates.setdefault(metric, []).append(rate)
        for metric, values in rates.items():
            yield _row(collection.name, "all", METHODS[kind], metric, values, len(courses))
        yield from _stop_shares(courses, collection.name, "all", METHODS[kind], AS_SHIPPED)
        for time in (0.25, 1.0):
            yield from _probabilities(courses, collection.name, METHODS[kind], time)


def _stop_shares(
    courses: Sequence[Course], corpus: str, band: str, method: str, suffix: str = "", time: float = 5.0
) -> Iterator[Row]:
    """Shares of the good and of the low runs that are stopped by a time."""
    stopped = np.array([course.stopped for course in courses])
    low = np.array([course.low for course in courses])
    for metric, among in ((FALSE_STOPS, ~low), (TRUE_STOPS, low)):
        if among.any():
            yield _share(corpus, band, method, time, metric + suffix, stopped[among])


def _probabilities(courses: Sequence[Course], corpus: str, method: str, time: float) -> Iterator[Row]:
    """How true the probabilities of ending low are that were given at a time."""
    said = [
        (verdict.p_low, course.low)
        for course in courses
        for verdict in course.verdicts
        if verdict.epoch == time
    ]
    given, low = np.array(said, dtype=np.float64).T
    yield _mean(corpus, "all", method, time, BRIER, (given - low) ** 2)
    yield _mean(corpus, "all", method, time, f"{BRIER}_of_share", (low.mean() - low) ** 2)
    for step in range(BINS):
        among = np.minimum((given * BINS).astype(int), BINS - 1) == step
        if among.any():
            metric = f"{RELIABILITY}{(step + 0.5) / BINS:g}"
            yield _share(corpus, "all", method, time, metric, low[among] > 0)


def _unseen(collection: Collection, seed: int) -> dict[str, list[Course]]:
    """Courses of all runs, each by a predictor that was fitted without its configuration."""
    courses: dict[str, list[Course]] = {kind: [] for kind in METHODS}
    for test in held_out_folds(collection, seed):
        predictor = fitted_without(collection, test, seed)
        for kind, found in courses.items():
            found += follow(predictor, collection.take(test), kind)
    return courses


def held_out_folds(collection: Collection, seed: int) -> list[NDArray[np.int64]]:
    """Five sets of runs, by their places; a configuration is in one of them."""
    return folds(np.unique(collection.configurations, return_inverse=True)[1], seed)


def fitted_without(collection: Collection, test: NDArray[np.int64], seed: int) -> Predictor:
    """A predictor of the kind that is shipped, fitted to all runs but these."""
    train = np.setdiff1d(np.arange(len(collection.records)), test)
    return collection.take(train).fit(new_predictor(collection, seed=seed))


def _split(courses: Sequence[Course], random: np.random.Generator) -> Iterator[tuple[str, float]]:
    good = [course for course in courses if not course.low]
    dealt = random.permutation(len(good))
    known, new = ([good[place] for place in part] for part in np.array_split(dealt, 2))
    bar = Policy({"any": [[_largest(course) for course in known]]}, RATE).risk_threshold("any")
    if bar is None or not new:
        return
    yield FALSE_STOPS, float(np.mean([_largest(course) > bar for course in new]))
    low = [course for course in courses if course.low]
    if low:
        yield TRUE_STOPS, float(np.mean([_largest(course) > bar for course in low]))


def _largest(course: Course) -> float:
    return max(
        (verdict.risk if not verdict.diverged else 1e6 for verdict in course.verdicts), default=-np.inf
    )


def follow(predictor: Predictor, collection: Collection, kind: str) -> list[Course]:
    """What a predictor says of each run at each of its times."""
    relative, policy = collection.relative, Policy.from_predictor(predictor, max_false_stop_rate=RATE)
    share, threshold = predictor.low_share, predictor.low_threshold
    low = relative < share if share is not None else collection.accuracies < (threshold or 0)
    said = [_verdicts(predictor, collection, place, kind) for place in range(len(collection.records))]
    return [
        Course(verdicts, accuracy, relative[place], bool(low[place]), policy.decide(verdicts).stop)
        for place, (verdicts, accuracy) in enumerate(zip(said, collection.accuracies.tolist(), strict=True))
    ]


def _verdicts(predictor: Predictor, collection: Collection, place: int, kind: str) -> list[Verdict]:
    history, training = collection.histories[place], collection.trainings[place]
    curve = collection.curves[place] if kind == "fused" else None
    found: list[Verdict] = []
    for end in range(2, len(history) + 1):
        if history[end - 1].epoch > predictor.times[-1]:
            break
        try:
            verdict = predictor.predict(history[:end], curve=curve, training=training)
        except PredictorError:  # a time that it does not know
            continue
        if verdict.diverged or not found or verdict.epoch > found[-1].epoch:
            found.append(verdict)
        if verdict.diverged:
            break
    return found


# -- strangers


def left_out(union: Collection) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """What is left out in turn: each population, data set and optimizer that leaves enough of others."""
    traits = {
        "": union.populations,
        "data set ": np.array([record.config["dataset"] for record in union.records]),
        "optimizer ": np.array([training.optimizer or "" for training in union.trainings]),
    }
    for kind, values in traits.items():
        for value in np.unique(values):
            out = values == value
            if len(np.unique(values)) > 1 and min(out.sum(), (~out).sum()) >= _FEWEST:
                yield f"without {kind}{value}", out


def stranger_rows(
    union: Collection, out: NDArray[np.bool_], band: str, own: Collection | None = None, seed: int = 0
) -> Iterator[Row]:
    """A predictor over all other runs, on those that were left out.

    How many it takes for strangers after a quarter epoch and after one, how much it errs on those and on the
    others, and how many it stops: of the good ones by mistake, of the low ones rightly; and would stop, if it
    took none for a stranger. Where the runs that were left out are a sweep, the rows of `own_rows` for it,
    too: the same predictor gives them.
    """
    try:
        predictor = union.take(~out).fit(Predictor(low_share=LOW_SHARE, seed=seed))
    except PredictorError:
        return
    policy, tested = Policy.from_predictor(predictor, max_false_stop_rate=RATE), union.take(out)
    for kind, method in METHODS.items():
        courses = follow(predictor, tested, kind)
        for time in (0.25, 1.0):
            yield from _strangers(courses, band, method, time)
        known = [_as_known(course, policy) for course in courses]
        for suffix, taken in (("", courses), (IF_KNOWN, known)):
            yield from _stop_shares(taken, UNIVERSAL, band, method, suffix, predictor.times[-1])
    if own is not None:
        yield from own_rows(union, own, predictor, seed=seed)


def _as_known(course: Course, policy: Policy) -> Course:
    verdicts = [replace(verdict, in_domain=True) for verdict in course.verdicts]
    return course._replace(verdicts=verdicts, stopped=policy.decide(verdicts).stop)


def _strangers(courses: Sequence[Course], band: str, method: str, time: float) -> Iterator[Row]:
    said = [(verdict, course) for course in courses for verdict in course.verdicts if verdict.epoch == time]
    if not said:
        return
    strange = np.array([not verdict.in_domain for verdict, _ in said])
    yield _share(UNIVERSAL, band, method, time, "flagged_share", strange)
    errors = np.array([abs((verdict.relative_accuracy or 0) - course.relative) for verdict, course in said])
    for metric, among in (("mae_relative_known", ~strange), ("mae_relative_flagged", strange)):
        if among.any():
            yield _mean(UNIVERSAL, band, method, time, metric, errors[among])


# -- few runs of one's own


def own_rows(
    union: Collection, own: Collection, universal: Predictor | None = None, seed: int = 0
) -> Iterator[Row]:
    """Thirty runs of a sweep against all that other corpora teach, on the rest of the sweep.

    Args:
        union: all runs.
        own: those of the sweep.
        universal: a predictor over all others, if there is one already; None fits one.
        seed: of the fits, and of which thirty.
    """
    elsewhere = ~np.isin(union.populations, np.unique(own.populations))
    if elsewhere.sum() < _FEWEST or len(own.records) < 2 * _OWN:
        return
    if universal is None:
        universal = _early_predictor(union.take(elsewhere), seed)
    taught = follow(universal, own, "fused")
    random = np.random.default_rng(seed)
    errors: dict[tuple[str, float, str], list[float]] = {}
    for draw in range(_DRAWS):
        order = random.permutation(len(own.records))
        try:
            learned = _followed_by_own(own, order, seed + draw)
        except PredictorError:
            continue
        for name, courses in (("own-30", learned), ("universal", [taught[place] for place in order[_OWN:]])):
            for time, metric, value in _ranked(courses):
                errors.setdefault((name, time, metric), []).append(value)
    for (name, time, metric), values in errors.items():
        yield _row(own.name, "own sweep", name, metric, values, len(own.records) - _OWN, time)


def _followed_by_own(own: Collection, order: NDArray[np.int64], seed: int) -> list[Course]:
    """The rest of a sweep, by a predictor of its first runs in this order."""
    return follow(_early_predictor(own.take(order[:_OWN]), seed), own.take(order[_OWN:]), "fused")


def _early_predictor(collection: Collection, seed: int) -> Predictor:
    """Fitted to no more epochs than are compared."""
    return collection.fit(Predictor(low_share=LOW_SHARE, seed=seed, max_epoch=_OWN_TIMES[-1]))


def _ranked(courses: Sequence[Course]) -> Iterator[tuple[float, str, float]]:
    from scipy.stats import spearmanr

    for time in _OWN_TIMES:
        said = [
            (verdict.relative_accuracy or 0.0, course.relative)
            for course in courses
            for verdict in course.verdicts
            if verdict.epoch == time and not verdict.diverged
        ]
        predicted, truth = np.array(said).T
        yield time, "mae_relative", float(np.abs(predicted - truth).mean())
        if np.ptp(predicted) > 0:
            yield time, "spearman", float(spearmanr(predicted, truth).statistic)


# -- rows


def _row(
    corpus: str, band: str, method: str, metric: str, values: Sequence[float], runs: int, time: float = 5.0
) -> Row:
    low, high = np.percentile(values, _INTERVAL)
    return Row.of(
        corpus, band, method, time, metric, Score(float(np.mean(values)), float(low), float(high)), runs
    )


def _share(corpus: str, band: str, method: str, time: float, metric: str, hits: NDArray[np.bool_]) -> Row:
    """A share, with the exact binomial interval of Clopper and Pearson."""
    from scipy.stats import binomtest

    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95)
    score = Score(float(hits.mean()), float(interval.low), float(interval.high))
    return Row.of(corpus, band, method, time, metric, score, len(hits))


def _mean(corpus: str, band: str, method: str, time: float, metric: str, values: NDArray[np.float64]) -> Row:
    half = 1.96 * float(values.std()) / np.sqrt(len(values))
    score = Score(float(values.mean()), float(values.mean() - half), float(values.mean() + half))
    return Row.of(corpus, band, method, time, metric, score, len(values))
