"""Tables and figures of the pages of results, made from the rows in results/.

Usage: python benchmarks/result_pages.py

Replaces each table between `<!-- table NAME -->` and `<!-- end -->` in docs/results/*.md and in
docs/comparison.md, and draws docs/results/*.svg. Nothing is measured: `nndyn evaluate`,
benchmarks/real_sweeps.py and benchmarks/eight_kinds.py make the rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cohort_tables
from small_training_tables import kinds_done, kinds_said, real_sweeps

from lightning_nndyn.evaluation.benchmark.false_stop_rates import FALSE_STOPS, IF_KNOWN, TRUE_STOPS
from lightning_nndyn.evaluation.benchmark.judged_runs import UNIVERSAL
from lightning_nndyn.evaluation.benchmark.results import TITLES, draw_ranks, rank_lines, stop_lines
from lightning_nndyn.evaluation.benchmark.scores import Row, select
from lightning_nndyn.evaluation.figures import draw_lines
from lightning_nndyn.evaluation.markdown import epochs_text, number, table
from lightning_nndyn.evaluation.paper.feature_analysis import IMPORTANCE
from lightning_nndyn.evaluation.paper.published_numbers import CLAIMS, Subject, printed_regression
from lightning_nndyn.evaluation.replay.rows import ReplayRow, draw_defaults, summary, summary_table
from lightning_nndyn.evaluation.result_file import read_rows

_ROOT = Path(__file__).parent.parent
PAGES = _ROOT / "docs" / "results"
_MARKED = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

_PAPER = {
    "lenet5-cifar10": "LeNet-5, CIFAR-10",
    "alexnet-cifar10": "AlexNet, CIFAR-10",
    "vgg7-cifar10": "VGG7, CIFAR-10",
    "resnet32-cifar10": "ResNet-32, CIFAR-10",
    "resnet44-cifar10": "ResNet-44, CIFAR-10",
    "lenet5-imagenet100": "LeNet-5, ImageNet-100",
    "alexnet-imagenet100": "AlexNet, ImageNet-100",
}
"""Corpora of the paper's networks and data."""

Line = list[str]


def main(pages: Sequence[Path]) -> None:
    """Write the tables of these pages, and all figures."""
    draw_ranks([row for row in _predictions() if row.corpus != UNIVERSAL], PAGES / "predictions.svg")
    draw_defaults([rule for rule in summary(_replay()) if rule.missed], PAGES / "replay.svg")
    cohort_tables.draw_ways(PAGES / "cohort.svg")
    _draw_degrees(PAGES / "degrees.svg")
    for page in pages:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


def filled(page: str) -> str:
    """The text of a page with its tables made anew."""
    return _MARKED.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", page)


# -- the rows


@cache
def _predictions() -> list[Row]:
    rows, _ = read_rows(_ROOT / "results" / "predictions.parquet")
    return [Row(**{key: value for key, value in row.items() if key not in ("knows", "part")}) for row in rows]


@cache
def _replay() -> list[ReplayRow]:
    return [ReplayRow(**row, seconds=0.0) for row in read_rows(_ROOT / "results" / "replay.parquet")[0]]


def _values(**fields: Any) -> dict[str, float]:
    """Values of predictions by method, for rows of one corpus, time and metric."""
    return {row.method: row.value for row in select(_predictions(), **fields) if row.value is not None}


# -- tables


def _ranks() -> str:
    lines = [
        [corpus, *(number(found.get(method), 2) for method in TITLES)]
        for corpus, found in rank_lines(_predictions(), 1.0).items()
    ]
    return table(["corpus", *TITLES.values()], lines)


def _race() -> str:
    rules = {"race by weights, keeping 6 %": "`race`", "MedianPruner": "median rule"}
    found = {(row.corpus, row.policy): row for row in _replay() if row.band == "all"}
    header = ["corpus", *(f"{name}: {what}" for name in rules.values() for what in ("epochs, %", "missed"))]
    lines = []
    for corpus in dict.fromkeys(corpus for corpus, _ in found):
        own = [found[corpus, rule] for rule in rules]
        cells = ((number(row.epochs_share, 0, 100), number(row.regret, 2, 100)) for row in own)
        lines.append([corpus, *(cell for pair in cells for cell in pair)])
    return table(header, lines)


def _stops() -> str:
    header = ["corpus", "good runs stopped, %", "low runs stopped, %"]
    return table(header, list(stop_lines(_predictions())))


def _strangers() -> str:
    """What was left out of the fit, where more than 5 % of the good runs were, or would be, stopped."""
    names = {"graph-v2": "weights", "fused": "weights and curve"}
    lines = []
    for row in select(_predictions(), corpus=UNIVERSAL, metric=FALSE_STOPS + IF_KNOWN):
        own = {one.metric: one.value for one in select(_predictions(), band=row.band, method=row.method)}
        if max(row.value or 0, own[FALSE_STOPS] or 0) > 0.05:
            values = [own[metric] for metric in (FALSE_STOPS, FALSE_STOPS + IF_KNOWN, TRUE_STOPS)]
            left_out = row.band.removeprefix("without ")
            lines.append([left_out, names[row.method], *(number(value, 1, 100) for value in values)])
    header = ["left out", "read", "good stopped, %", "if all in domain, %", "low stopped, %"]
    return table(header, lines)


def _classification() -> str:
    """The paper's classifiers after five epochs, beside its claims."""
    columns = [f"graph-paper-{kind}{form}" for form in ("", "-eigenvector-plain") for kind in ("svm", "mlp")]
    lines = []
    for corpus, title in _PAPER.items():
        found = _values(corpus=corpus, band="all", metric="accuracy", t=5.0)
        claims = [claim for claim in CLAIMS if _subject(corpus) in claim.subjects]
        says = dict.fromkeys(f"{claim.says} ({claim.features})" for claim in claims)
        cells = [number(found[method], 0, 100) for method in ("majority", *columns)]
        lines.append([title, *cells, "; ".join(says)])
    header = [
        "network, data",
        "majority",
        "SVM, degree",
        "MLP, degree",
        "SVM, eigenvector",
        "MLP, eigenvector",
    ]
    return table([*header, "the paper says"], lines)


def _subject(corpus: str) -> Subject:
    network, _, data = corpus.partition("-")
    return network, data


def _regression() -> str:
    """The last pair of epochs of each network in the paper's tables."""
    lines = []
    for corpus, title in _PAPER.items():
        if printed := printed_regression(_subject(corpus)):
            number_of_table, pairs = printed
            first, last = max(pairs)
            method = f"graph-paper-regression-degree-{first}-{last}"
            here = [
                _values(corpus=corpus, band="all", metric=metric, t=float(last))[method]
                for metric in ("mae", "r2")
            ]
            cells = [number(100 * here[0], 1), number(pairs[first, last][0], 1)]
            cells += [number(here[1], 2), number(pairs[first, last][1], 2)]
            lines.append([f"{title} (Table {number_of_table})", f"{first}-{last}", *cells])
    return table(["network, data", "epochs", "error here", "error, paper", "R2 here", "R2, paper"], lines)


def _importance() -> str:
    lines = []
    for corpus in ("vgg7-cifar10", "lenet5-cifar10", "resnet44-cifar10"):
        cells = []
        for kind in ("svm", "mlp"):
            own = select(_predictions(), corpus=corpus, method=f"graph-paper-{kind}-both-plain", t=15.0)
            rows = [row for row in own if row.metric.startswith(IMPORTANCE)]
            best = sorted(rows, key=lambda row: -(row.value or 0))[:3]
            names = (row.metric.removeprefix(IMPORTANCE).replace("_", " ") for row in best)
            points = (number(row.value, 1, 100) for row in best)
            cells.append(", ".join(f"{name} {value}" for name, value in zip(names, points, strict=True)))
        lines.append([_PAPER[corpus], *cells])
    return table(["network, data", "SVM loses most without", "MLP loses most without"], lines)


def _unseen() -> str:
    grids = [corpus for corpus in _PAPER if corpus.endswith("-cifar10")]
    pairs = [(("resnet32-cifar10",), "resnet44-cifar10")]
    for tested in ("resnet32-cifar10", "resnet44-cifar10"):
        pairs.append((tuple(sorted(set(grids) - {tested})), tested))
    lines = []
    for trained, tested in pairs:
        found = _values(corpus=tested, band=f"from {'+'.join(trained)}", metric="accuracy", t=5.0)
        cells = [
            number(found[f"{name}"], 0, 100) for name in ("majority", "graph-paper-svm", "graph-paper-mlp")
        ]
        source = _PAPER[trained[0]].split(",")[0] if len(trained) == 1 else "the four other networks"
        lines.append([_PAPER[tested].split(",")[0], source, *cells])
    return table(["tested on", "fitted to", "majority", "SVM", "MLP"], lines)


@cache
def _unrolled() -> list[Row]:
    return [Row(**row) for row in read_rows(_ROOT / "results" / "unrolled.parquet")[0]]


_GRAPHS = {
    "rolled": "rolled",
    "unrolled": "unrolled, both parts",
    "positive": "unrolled, positive part",
    "negative": "unrolled, negative part",
    "graph-v2": "rolled, signature version 2",
}


def _unrolled_classification() -> str:
    times = sorted({row.t for row in _unrolled()})
    rows = {(row.method, row.t): row for row in select(_unrolled(), band="all", metric="accuracy")}
    lines = [["*majority*", "", *(_with_interval(rows.get(("majority", time))) for time in times)]]
    for graph in list(_GRAPHS)[:4]:
        for method, title in _CLASSIFIERS.items():
            own = (rows.get((f"{graph}-{method}", time)) for time in times)
            lines.append([_GRAPHS[graph], title, *map(_with_interval, own)])
    return table(["graph", "classifier, feature", *map(epochs_text, times)], lines)


_CLASSIFIERS = {
    "degree-svm": "SVM, degree",
    "degree-mlp": "MLP, degree",
    "eigenvector-svm": "SVM, eigenvector",
    "eigenvector-mlp": "MLP, eigenvector",
}


def _with_interval(row: Row | None, digits: int = 0, scale: float = 100) -> str:
    if row is None:
        return ""
    value, low, high = (number(end, digits, scale) for end in (row.value, row.low, row.high))
    return f"{value} ({low} to {high})"


def _unrolled_ranks() -> str:
    rows = {(row.method, row.band, row.t): row for row in select(_unrolled(), metric="spearman")}
    columns = [(band, time) for time in (1.0, 5.0) for band in ("all", "trainable")]
    lines = [
        [title, *(_with_interval(rows.get((graph, *column)), 2, 1) for column in columns)]
        for graph, title in _GRAPHS.items()
    ]
    header = [f"{epochs_text(time)} epochs, {band} runs" for band, time in columns]
    return table(["graph", *header], lines)


def _run_time() -> str:
    """Milliseconds of a snapshot and seconds of an epoch."""
    rows, _ = read_rows(_ROOT / "results" / "run_time.parquet")
    columns = [
        "rolled cold",
        "rolled warm",
        "unrolled cold",
        "unrolled warm",
        "unrolled with edges",
        "networkx",
    ]
    lines = []
    for row in rows:
        cells = [number(row[column], 0, 1000) for column in columns]
        share = number(row["unrolled warm"] / row["epoch"], 2, 100)
        lines.append([row["network"], number(row["epoch"], 0), *cells, number(row["MB"], 0), share])
    header = ["network", "epoch, s", *(f"{column}, ms" for column in columns)]
    return table([*header, "unrolled, MB", "unrolled warm, % of an epoch"], lines)


TABLES: dict[str, Callable[[], str]] = {
    "ranks": _ranks,
    "cohort": cohort_tables.ways_table,
    "cohort-budgets": cohort_tables.budgets_table,
    "cohort-ratios": cohort_tables.ratios_table,
    "cohort-ranks": cohort_tables.ranks_table,
    "replay": lambda: summary_table(summary(_replay())),
    "race": _race,
    "stops": _stops,
    "strangers": _strangers,
    "classification": _classification,
    "regression": _regression,
    "importance": _importance,
    "unseen": _unseen,
    "unrolled-classification": _unrolled_classification,
    "unrolled-ranks": _unrolled_ranks,
    "run-time": _run_time,
    "real-sweeps": real_sweeps,
    "kinds-said": kinds_said,
    "kinds": kinds_done,
}
"""What makes each table, by its name in the pages."""


# -- figures


def _draw_degrees(file: Path) -> None:
    """Medians and means of the mean degree, of good and of low runs of one network."""
    draw_lines(
        {
            f"{kind} of {runs} runs": list(_degrees(f"{kind}-of-{name}"))
            for kind in ("median", "mean")
            for name, runs in (("high", "good"), ("low", "low"))
        },
        file,
        x="epochs read",
        y="mean degree, LeNet-5 on CIFAR-10",
    )


def _degrees(method: str) -> Iterator[tuple[float, float]]:
    rows: Sequence[Row] = select(_predictions(), corpus="lenet5-cifar10", method=method, metric="degree_mean")
    for row in sorted(rows, key=lambda row: row.t):
        if row.t > 0 and row.value is not None:
            yield row.t, row.value


if __name__ == "__main__":
    main([*sorted(PAGES.glob("*.md")), _ROOT / "docs" / "comparison.md"])
