"""Tables of the paper's experiments beside the numbers that it prints, with texts on what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lightning_nndyn.evaluation.benchmark.rows import BANDS, Row
from lightning_nndyn.evaluation.benchmark.tables import Chapter, Table, by_time, epochs_text
from lightning_nndyn.evaluation.paper.classification import MAJORITY
from lightning_nndyn.evaluation.paper.feature_analysis import ANALYSED, CURVES, IMPORTANCE
from lightning_nndyn.evaluation.paper.features import SETTINGS, Setting
from lightning_nndyn.evaluation.paper.published_numbers import (
    CLAIMS,
    PAIRS,
    Claim,
    Subject,
    printed_regression,
)
from lightning_nndyn.evaluation.paper.regression import REGRESSIONS, Regression
from lightning_nndyn.evaluation.paper.unseen_architectures import is_unseen
from lightning_nndyn.signature.snapshot import STATISTICS

PAPER_TITLE = "Side by side with the paper"
"""Heading of the chapters."""

BESIDE = ("graph-v2", "fused", "curves", "last-accuracy", "hyperparameters")
"""Methods of the comparison that also stand in the tables of classification."""

Subjects = Mapping[str, Subject | None]
"""The network and data set of each corpus, by its name."""

_CLASSIFICATION = """\
Per cent of held-out runs correctly called low or not by the paper's method: a support-vector machine or a
multi-layer perceptron (scikit-learn's defaults, at most 500 iterations, standardised inputs; the paper gives
no details) on the raw median, mean, standard deviation, skewness and kurtosis of degree or eigenvector
centrality. These are concatenated over epoch 0 and the ends of epochs (below one epoch: over its fractions),
averaged linearly, or averaged exponentially (alpha 1/2). `graph-paper-svm` and `graph-paper-mlp` are the
paper's main setting: degree, plain. The paper's figures have no printed numbers; claims of its text are in a
table of their own, where they are about a corpus's network and data set. The paper sampled 250 of 480 runs,
half of them low, and compared with 50 %; here all runs of a corpus count, so that the baseline is `majority`,
the share of the more frequent class. Every run here starts from its own initial weights; the paper does not
say whether its runs did. Runs whose weights are no longer finite, or that have ended, are left out from then
on. The last methods are those of the tables above, on the same folds: their predicted accuracy against the
threshold."""

_REGRESSION = """\
Final accuracy by least squares from the statistics at two epochs: mean absolute error in points, and R2
(below 0: worse than predicting the mean). Five-fold cross-validation tests every run once; the paper tests
one fifth. Predictions are clipped to 0 to 100 %, which favours the method: otherwise a single run whose
weights explode may decide the score. The paper's columns are printed for degree; its text (section 4.2) gives
LeNet 5.74 and 0.91 at 5-7, where its Table 4 has 12.49 and 0.75. Its sample is half low, so that its
accuracies, and with them R2, have another spread."""

_UNSEEN = """\
Per cent of a corpus's runs correctly called low or not by classifiers (degree, plain) that were fitted to
runs of other networks on the same data set: the mean over five random training samples, each as large as
possible and half low. One threshold, the tested corpus's, labels all runs. `majority` is the share of the
more frequent class. Corpora of several networks or data sets are left out here: for them the tables above
have bands without a kind of network."""

_IMPORTANCE = """\
Points of accuracy that a classifier on all ten statistics loses when one of them is taken from another run,
at all epochs together (mean of 20 shuffles within each fold of held-out runs; below 0: it does better
without). The paper shows weights of its classifier for the five statistics of degree, without saying how it
obtains them from a support-vector machine; it names mean, standard deviation and median of the degrees as the
top three. Statistics that carry the same information can replace each other, so that each alone looks
dispensable; where a classifier is no better than `majority`, its importances mean nothing."""

_CURVES = """\
Means of each statistic over runs that end high and that end low, before training and at times; the figure
also shows medians, and 95 % intervals. The paper draws single runs and says that degrees of good runs rise,
while those of low ones stay flat, some after an early spike. A mean does not separate low runs that hardly
move from those that explode: where it is far above the median, a few runs dominate it. Differences between
high and low runs before training come from different networks, or from chance. Runs are left out once their
weights are no longer finite, or they have ended."""


def paper_chapters(rows: Sequence[Row], subjects: Subjects) -> list[Chapter]:
    """All chapters that have rows."""
    corpora = list(dict.fromkeys(row.corpus for row in rows))
    chapters = [
        Chapter(title, text, [one for corpus in corpora for one in make(rows, corpus, subjects.get(corpus))])
        for title, text, make in (
            ("Classification: figures 4, 5, 11 and 12", _CLASSIFICATION, _classification),
            ("Regression: Tables 3 and 4", _REGRESSION, _regression),
            ("Networks never seen: figure 10", _UNSEEN, _unseen),
            ("Importance of the statistics: figures 7 to 9, (a)", _IMPORTANCE, _importance),
            ("Statistics over time: figures 7 to 9, (b) to (d)", _CURVES, _curves),
        )
    ]
    return [chapter for chapter in chapters if chapter.tables]


def _classification(rows: Sequence[Row], corpus: str, subject: Subject | None) -> Iterator[Table]:
    methods = (*SETTINGS, MAJORITY, *BESIDE)
    for band in BANDS:
        own = [row for row in rows if (row.corpus, row.band, row.metric) == (corpus, band, "accuracy")]
        if not any(row.method in SETTINGS for row in own):
            continue
        own = sorted((row for row in own if row.method in methods), key=lambda row: methods.index(row.method))
        name = f"{corpus}-paper-classification-{band}"
        title = f"{corpus}: {band} runs, up to {max(row.runs for row in own)}"
        yield by_time(own, "accuracy", name, title, figure=name)
        if band == "all" and (claims := [claim for claim in CLAIMS if subject in claim.subjects]):
            yield _claims_table(own, corpus, claims)


def _claims_table(rows: Sequence[Row], corpus: str, claims: Sequence[Claim]) -> Table:
    lines = [_claim(rows, claim) for claim in claims]
    header = ["paper", "reads", "by", "epochs", "says", "here", "majority"]
    return Table(f"{corpus}-paper-claims", f"{corpus}: the paper's sentences", header, lines)


def _claim(rows: Sequence[Row], claim: Claim) -> list[str]:
    """A claim of the paper beside our number at its time, or at the next later one."""
    times = sorted({row.t for row in rows if row.method in SETTINGS})
    at = min((time for time in times if time >= claim.epochs), default=times[-1])
    values = {row.method: row.value for row in rows if row.t == at and row.value is not None}
    kinds = [claim.classifier] if claim.classifier else ["svm", "mlp"]
    names = {Setting(kind, claim.features).name: kind.upper() for kind in kinds}  # type: ignore[arg-type]
    best, by = max((values[name], kind) for name, kind in names.items() if name in values)
    here = f"{100 * best:.1f} ({by}, {epochs_text(at)} epochs)"
    by_claim = claim.classifier.upper() if claim.classifier else "the better"
    majority = f"{100 * values[MAJORITY]:.1f}"
    return [claim.where, claim.features, by_claim, str(claim.epochs), claim.says, here, majority]


def _regression(rows: Sequence[Row], corpus: str, subject: Subject | None) -> Iterator[Table]:
    printed = printed_regression(subject)
    for band in BANDS:
        own = [row for row in rows if (row.corpus, row.band) == (corpus, band) and row.method in REGRESSIONS]
        if not own:
            continue
        cells = {(row.method, row.metric): row.value for row in own}
        header = ["epochs", "degree: error", "R2", "eigenvector: error", "R2"]
        lines = [_errors(cells, pair) for pair in PAIRS if any(_errors(cells, pair)[1:])]
        if printed and band == "all":
            header += [f"paper, Table {printed[0]}: error", "R2"]
            lines = [[*line, *_printed(printed[1].get(_pair(line[0])))] for line in lines]
        title = f"{corpus}: {band} runs, up to {max(row.runs for row in own)}"
        yield Table(f"{corpus}-paper-regression-{band}", title, header, lines)


def _errors(cells: Mapping[tuple[str, str], float | None], pair: tuple[int, int]) -> list[str]:
    line = [f"{pair[0]}-{pair[1]}"]
    for features in ("degree", "eigenvector"):
        name = Regression(features, pair).name
        error, share = cells.get((name, "mae")), cells.get((name, "r2"))
        line += [
            "" if error is None else _rounded(100 * error, 2),
            "" if share is None else _rounded(share, 2),
        ]
    return line


def _pair(text: str) -> tuple[int, int]:
    first, _, second = text.partition("-")
    return int(first), int(second)


def _printed(numbers: tuple[float, float] | None) -> list[str]:
    return [f"{numbers[0]:.2f}", f"{numbers[1]:.2f}"] if numbers else ["", ""]


def _unseen(rows: Sequence[Row], corpus: str, subject: Subject | None) -> Iterator[Table]:
    own = [row for row in rows if row.corpus == corpus and is_unseen(row) and row.metric == "accuracy"]
    bands = list(dict.fromkeys(row.band for row in own))
    for band in bands:
        chosen = [row for row in own if row.band == band]
        name = f"{corpus}-paper-unseen-{band.replace(' ', '-')}"
        title = f"{corpus}: fitted to runs {band}, up to {max(row.runs for row in chosen)} runs"
        figure = f"{corpus}-paper-unseen" if band == bands[-1] else ""  # one for all
        yield by_time(chosen, "accuracy", name, title, figure)


def _importance(rows: Sequence[Row], corpus: str, subject: Subject | None) -> Iterator[Table]:
    own = [row for row in rows if row.corpus == corpus and row.metric.startswith(IMPORTANCE)]
    if not own:
        return
    cells = {(row.method, row.t, row.metric): row.value or 0.0 for row in own}
    columns = list(dict.fromkeys((row.method, row.t) for row in own))
    header = ["statistic", *(f"{ANALYSED[name].classifier.upper()}, {epochs_text(t)}" for name, t in columns)]
    lines = [
        [
            statistic.replace("_", " "),
            *(_rounded(100 * cells[name, t, IMPORTANCE + statistic], 1) for name, t in columns),
        ]
        for statistic in STATISTICS
    ]
    name = f"{corpus}-paper-importance"
    title = f"{corpus}: points lost, by classifier and epochs read, up to {max(row.runs for row in own)} runs"
    yield Table(name, title, header, lines, figure=name)


def _curves(rows: Sequence[Row], corpus: str, subject: Subject | None) -> Iterator[Table]:
    means = [name for name in CURVES if name.startswith("mean")]
    own = [row for row in rows if row.corpus == corpus and row.method in means]
    if not own:
        return
    cells = {(row.metric, row.method, row.t): row.value or 0.0 for row in own}
    times = sorted({row.t for row in own})
    lines = [
        [
            statistic.replace("_", " "),
            name.rpartition("-")[2],
            *(_short(cells.get((statistic, name, t))) for t in times),
        ]
        for statistic in STATISTICS
        for name in means
    ]
    header = ["mean of", "runs", *map(epochs_text, times)]
    name = f"{corpus}-paper-curves"
    yield Table(
        name, f"{corpus}: up to {sum(_max_runs(own, one) for one in means)} runs", header, lines, figure=name
    )


def _max_runs(rows: Sequence[Row], method: str) -> int:
    return max((row.runs for row in rows if row.method == method), default=0)


def _rounded(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # no minus before a zero


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
