"""Tables beside the paper's, each kind with a paragraph that says what was done, and where it departs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lightning_nndyn.evaluation.benchmark.compare import BANDS, Row
from lightning_nndyn.evaluation.benchmark.tables import Table, by_time, epochs_text
from lightning_nndyn.evaluation.paper import texts
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

BESIDE = ("graph-v2", "fused", "curves", "last-accuracy", "hyperparameters")
"""Methods of the comparison that stand in the table of classification."""

Subjects = Mapping[str, Subject | None]
"""Corpora's networks and data sets, by name."""


@dataclass(frozen=True)
class Chapter:
    """Tables of one kind, and what is to be known about them, whatever their numbers."""

    title: str
    text: str
    tables: Sequence[Table]

    def markdown(self) -> str:
        """Nothing where there are no tables."""
        parts = [f"### {self.title}", self.text, *(table.section(4) for table in self.tables)]
        return "\n\n".join(parts) if self.tables else ""


def chapters(rows: Sequence[Row], subjects: Subjects) -> list[Chapter]:
    """All tables beside the paper's."""
    corpora = list(dict.fromkeys(row.corpus for row in rows))
    parts = {
        title: (text, [table for corpus in corpora for table in make(rows, corpus, subjects.get(corpus))])
        for title, text, make in (
            ("Classification: figures 4, 5, 11 and 12", texts.CLASSIFICATION, _classification),
            ("Regression: Tables 3 and 4", texts.REGRESSION, _regression),
            ("Networks never seen: figure 10", texts.UNSEEN, _unseen),
            ("Importance of the statistics: figures 7 to 9, (a)", texts.IMPORTANCE, _importance),
            ("Statistics over time: figures 7 to 9, (b) to (d)", texts.CURVES, _curves),
        )
    }
    return [Chapter(title, text, found) for title, (text, found) in parts.items() if found]


def paper_report(found: Sequence[Chapter]) -> str:
    """The chapters as Markdown."""
    texts = [chapter.markdown() for chapter in found]
    return "\n\n".join(["## Side by side with the paper", *texts]) if texts else ""


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
    """Beside a sentence what came out at its time, or at the next later one."""
    times = sorted({row.t for row in rows if row.method in SETTINGS})
    at = min((time for time in times if time >= claim.epochs), default=times[-1])
    values = {row.method: row.value for row in rows if row.t == at and row.value is not None}
    kinds = [claim.classifier] if claim.classifier else ["svm", "mlp"]
    names = {Setting(kind, claim.features).name: kind.upper() for kind in kinds}  # type: ignore[arg-type]
    best, by = max((values[name], kind) for name, kind in names.items() if name in values)
    here = f"{100 * best:.1f} ({by}, {epochs_text(at)} epochs)"
    said_by = claim.classifier.upper() if claim.classifier else "the better"
    majority = f"{100 * values[MAJORITY]:.1f}"
    return [claim.where, claim.features, said_by, str(claim.epochs), claim.says, here, majority]


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
        name, f"{corpus}: up to {sum(_most(own, one) for one in means)} runs", header, lines, figure=name
    )


def _most(rows: Sequence[Row], method: str) -> int:
    return max((row.runs for row in rows if row.method == method), default=0)


def _rounded(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # no minus before a zero


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
