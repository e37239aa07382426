"""Tables of the paper's experiments beside the numbers that it prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lightning_nndyn.evaluation.benchmark.scores import BANDS, Row, distinct, select
from lightning_nndyn.evaluation.benchmark.tables import Chapters, Table, by_time, epochs_text, number
from lightning_nndyn.evaluation.paper.classification import MAJORITY
from lightning_nndyn.evaluation.paper.feature_analysis import ANALYSED, CURVES, IMPORTANCE
from lightning_nndyn.evaluation.paper.features import SETTINGS
from lightning_nndyn.evaluation.paper.published_numbers import (
    CLAIMS,
    PAIRS,
    Claim,
    Pair,
    Subject,
    printed_regression,
)
from lightning_nndyn.evaluation.paper.regression import REGRESSIONS, Regression
from lightning_nndyn.evaluation.paper.unseen_architectures import is_unseen
from lightning_nndyn.signature.snapshot import STATISTICS

BESIDE = ("graph-v2", "fused", "curves", "last-accuracy", "hyperparameters")
"""Methods of the comparison that also stand in the tables of classification."""

Subjects = Mapping[str, Subject | None]
"""The network and data set of each corpus, by its name."""


def paper_chapters(rows: Sequence[Row], subjects: Subjects) -> Chapters:
    """The tables by chapter; none in a chapter without rows."""
    chapters = {
        "classification": _classification,
        "regression": _regression,
        "unseen": _unseen,
        "importance": _importance,
        "curves": _curves,
    }
    return {
        name: [
            table
            for corpus in distinct(rows, "corpus")
            for table in tables(select(rows, corpus=corpus), corpus, subjects.get(corpus))
        ]
        for name, tables in chapters.items()
    }


def _classification(rows: Sequence[Row], corpus: str, subject: Subject | None) -> Iterator[Table]:
    methods = (*SETTINGS, MAJORITY, *BESIDE)
    for band in BANDS:
        own = [row for row in select(rows, band=band, metric="accuracy") if row.method in methods]
        if not any(row.method in SETTINGS for row in own):
            continue
        own.sort(key=lambda row: methods.index(row.method))
        name = f"{corpus}-paper-classification-{band}"
        yield by_time(own, "accuracy", name, f"{corpus}: {band} runs, {_up_to(own)}", figure=name)
        if band == "all" and (claims := [claim for claim in CLAIMS if subject in claim.subjects]):
            header = ["paper", "reads", "by", "epochs", "says", "here", "majority"]
            lines = [_claim(own, claim) for claim in claims]
            yield Table(f"{corpus}-paper-claims", f"{corpus}: the paper's sentences", header, lines)


def _claim(rows: Sequence[Row], claim: Claim) -> list[str]:
    """A claim of the paper beside our number at its time, or at the next later one."""
    times = sorted({row.t for row in rows if row.method in SETTINGS})
    at = min((time for time in times if time >= claim.epochs), default=times[-1])
    values = {row.method: row.value for row in rows if row.t == at and row.value is not None}
    best, by = max(
        (values[name], setting.classifier.upper())
        for name, setting in SETTINGS.items()
        if name in values
        and (setting.features, setting.form) == (claim.features, "plain")
        and claim.classifier in (None, setting.classifier)
    )
    here = f"{number(best, 1, 100)} ({by}, {epochs_text(at)} epochs)"
    by_claim = claim.classifier.upper() if claim.classifier else "the better"
    majority = number(values[MAJORITY], 1, 100)
    return [claim.where, claim.features, by_claim, str(claim.epochs), claim.says, here, majority]


def _regression(rows: Sequence[Row], corpus: str, subject: Subject | None) -> Iterator[Table]:
    printed = printed_regression(subject)
    for band in BANDS:
        own = [row for row in select(rows, band=band) if row.method in REGRESSIONS]
        if not own:
            continue
        cells = {(row.method, row.metric): row.value for row in own}
        header = ["epochs", "degree: error", "R2", "eigenvector: error", "R2"]
        lines = {pair: _errors(cells, pair) for pair in PAIRS}
        if printed and band == "all":
            header += [f"paper, Table {printed[0]}: error", "R2"]
            for pair, line in lines.items():
                line += [number(value, 2) for value in printed[1].get(pair, (None, None))]
        named = [[f"{pair[0]}-{pair[1]}", *line] for pair, line in lines.items() if any(line[:4])]
        name, title = f"{corpus}-paper-regression-{band}", f"{corpus}: {band} runs, {_up_to(own)}"
        yield Table(name, title, header, named)


def _errors(cells: Mapping[tuple[str, str], float | None], pair: Pair) -> list[str]:
    names = [Regression(features, pair).name for features in ("degree", "eigenvector")]
    return [
        number(cells.get((name, metric)), 2, scale)
        for name in names
        for metric, scale in (("mae", 100), ("r2", 1))
    ]


def _unseen(rows: Sequence[Row], corpus: str, subject: Subject | None) -> Iterator[Table]:
    own = [row for row in select(rows, metric="accuracy") if is_unseen(row)]
    bands = distinct(own, "band")
    for band in bands:
        chosen = select(own, band=band)
        name = f"{corpus}-paper-unseen-{band.replace(' ', '-')}"
        figure = f"{corpus}-paper-unseen" if band == bands[-1] else ""  # one for all
        title = f"{corpus}: fitted to runs {band}, {_up_to(chosen)} runs"
        yield by_time(chosen, "accuracy", name, title, figure)


def _importance(rows: Sequence[Row], corpus: str, subject: Subject | None) -> Iterator[Table]:
    own = [row for row in rows if row.metric.startswith(IMPORTANCE)]
    if not own:
        return
    cells = {(row.method, row.t, row.metric): row.value or 0.0 for row in own}
    columns = distinct(own, "method", "t")
    header = ["statistic", *(f"{ANALYSED[name].classifier.upper()}, {epochs_text(t)}" for name, t in columns)]
    lines = [
        [words(statistic), *(number(cells[name, t, IMPORTANCE + statistic], 1, 100) for name, t in columns)]
        for statistic in STATISTICS
    ]
    name = f"{corpus}-paper-importance"
    title = f"{corpus}: points lost, by classifier and epochs read, {_up_to(own)} runs"
    yield Table(name, title, header, lines, figure=name)


def _curves(rows: Sequence[Row], corpus: str, subject: Subject | None) -> Iterator[Table]:
    means = [name for name in CURVES if name.startswith("mean")]
    own = [row for row in rows if row.method in means]
    if not own:
        return
    cells = {(row.metric, row.method, row.t): row.value or 0.0 for row in own}
    times = sorted({row.t for row in own})
    lines = [
        [words(statistic), name.rpartition("-")[2], *(_short(cells.get((statistic, name, t))) for t in times)]
        for statistic in STATISTICS
        for name in means
    ]
    runs = sum(max((row.runs for row in select(own, method=name)), default=0) for name in means)
    name = f"{corpus}-paper-curves"
    yield Table(
        name,
        f"{corpus}: up to {runs} runs",
        ["mean of", "runs", *map(epochs_text, times)],
        lines,
        figure=name,
    )


def words(name: str) -> str:
    """A statistic's name for readers."""
    return name.replace("_", " ")


def _up_to(rows: Sequence[Row]) -> str:
    return f"up to {max(row.runs for row in rows)}"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
