"""The results of a replay as rows, and as tables and a figure for readers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nndyn._files import read_json
from lightning_nndyn.corpus.storage.folder import write_atomically
from lightning_nndyn.evaluation.benchmark.figures import save, subplots
from lightning_nndyn.evaluation.benchmark.tables import Table, insert_tables, number
from lightning_nndyn.evaluation.cache import Part
from lightning_nndyn.evaluation.replay.policies import SweepPolicy, name_of
from lightning_nndyn.evaluation.replay.result import ReplayResult
from lightning_nndyn.evaluation.replay.sampled_sweeps import ReplayRun

TARGETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02)
"""Regrets at which the fewest epochs are compared, fractions of accuracy."""

GOAL = 1 / 3
"""The share of the epochs of the best other rule that ours are meant to spend."""

_DIGITS = 5
_NUMBERS = ("epochs_share", "regret", "good_stopped", "best_kept")
_NOT_PUBLISHED = ("family", "ours", "seconds")
_HEADER = ("stopping by", "epochs, %", "regret, points", "good stopped, %", "best kept, %")
_LINEAR = 0.1  # points of regret up to which the figure's axis is linear, as zero has no logarithm


@dataclass(frozen=True)
class BandSummary:
    """The runs of a band of a corpus that sweeps are drawn from.

    Attributes:
        corpus: its name.
        band: "all" or "trainable".
        runs: number of runs.
        good: number of good runs among them.
        size: runs in the smallest and in the largest sweep.
        datasets: number of data sets.
    """

    corpus: str
    band: str
    runs: int
    good: int
    size: tuple[int, int]
    datasets: int

    @classmethod
    def from_sweeps(
        cls, corpus: str, band: str, runs: Sequence[ReplayRun], sweeps: Sequence[Sequence[ReplayRun]]
    ) -> BandSummary:
        """Of the runs of a corpus and the sweeps that were drawn from them."""
        datasets = {run.dataset for sweep in sweeps for run in sweep}
        chosen = [run for run in runs if run.dataset in datasets and (band == "all" or run.trainable)]
        sizes = Counter(map(len, sweeps))
        good = sum(run.good for run in chosen)
        return cls(corpus, band, len(chosen), good, (min(sizes), max(sizes)), len(datasets))

    def of(self, rows: Sequence[ReplayRow]) -> list[ReplayRow]:
        """Those of the rows that are about these runs."""
        return [row for row in rows if (row.corpus, row.band) == (self.corpus, self.band)]

    def __str__(self) -> str:
        """A heading."""
        low, high = self.size
        size = str(high) if low == high else f"{low} to {high}"
        on = f", each on one of {self.datasets} data sets" if self.datasets > 1 else ""
        runs = f"{self.band} {self.runs} runs" if self.band == "all" else f"{self.runs} {self.band} runs"
        return f"{self.corpus}: sweeps of {size} out of {runs} ({self.good} good){on}"


@dataclass(frozen=True)
class ReplayRow:
    """A stopping rule on all sweeps of one corpus and band.

    Attributes:
        corpus: where the runs come from.
        band: "all" or "trainable".
        policy: family and setting.
        epochs_share: see `ReplayResult`, as the following three.
        regret: a fraction.
        good_stopped: a share, or None.
        best_kept: a share.
        part: its key in the cache.
        family: see `SweepPolicy`.
        ours: see `SweepPolicy`.
        seconds: that the replay took.
    """

    corpus: str
    band: str
    policy: str
    epochs_share: float
    regret: float
    good_stopped: float | None
    best_kept: float
    part: str
    family: str
    ours: bool
    seconds: float

    @classmethod
    def from_part(cls, summary: BandSummary, policy: SweepPolicy, key: str, part: Part) -> ReplayRow:
        """The row of a part that `part_of` or `published_parts` gave."""
        return cls(
            corpus=summary.corpus,
            band=summary.band,
            policy=name_of(policy),
            part=key,
            family=policy.family,
            ours=policy.ours,
            **part,
        )


def part_of(result: ReplayResult) -> Part:
    """The numbers of a result that are published, rounded."""
    numbers = {name: getattr(result, name) for name in _NUMBERS}
    return {name: value if value is None else round(value, _DIGITS) for name, value in numbers.items()}


def published_parts(file: Path) -> dict[str, Part]:
    """The numbers in a `replay.json`, by the keys of their parts; none where there is no such file."""
    try:
        rows = read_json(file)["rows"]
        return {row["part"]: {name: row[name] for name in _NUMBERS} | {"seconds": 0.0} for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write(
    rows: Sequence[ReplayRow], summaries: Sequence[BandSummary], sweeps: int, size: int, folder: Path
) -> None:
    """Write `replay.json`, `replay.md` and `figures/replay.png`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        CorpusError: the folder cannot be written.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    draw(rows, summaries, folder / "figures" / "replay.png")
    published = [
        {name: value for name, value in asdict(row).items() if name not in _NOT_PUBLISHED} for row in rows
    ]
    lines = ",\n".join(map(json.dumps, published))
    head = f'{{"sweeps": {sweeps}, "size": {size}, "rows": [\n'
    write_atomically(folder / "replay.json", f"{head}{lines}\n]}}\n".encode())
    page = folder / "replay.md"
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    write_atomically(page, insert_tables(before, report(rows, summaries)).encode())


def report(rows: Sequence[ReplayRow], summaries: Sequence[BandSummary]) -> str:
    """All tables as Markdown."""
    parts = [
        "![Regret against epochs spent](figures/replay.png)",
        "## Fewest epochs at equal regret",
        goal_text(rows, summaries),
        equal_regret(rows, summaries).markdown(),
    ]
    for summary in summaries:
        parts += [
            f"## {summary}",
            Table("", "", _HEADER, [_cells(row) for row in summary.of(rows)]).markdown(),
        ]
    return "\n\n".join(parts)


def _cells(row: ReplayRow) -> list[str]:
    numbers = (row.epochs_share, 1), (row.regret, 2), (row.good_stopped, 1), (row.best_kept, 1)
    name = f"**{row.policy}**" if row.ours else row.policy
    return [name, *(number(value, digits, 100) for value, digits in numbers)]


def equal_regret(rows: Sequence[ReplayRow], summaries: Sequence[BandSummary]) -> Table:
    """The fewest epochs that any of the other rules, and any of ours, spends for at most so much regret."""
    lines = []
    for summary in summaries:
        for target in TARGETS:
            cells = [summary.corpus, summary.band, f"{100 * target:g}"]
            best = _cheapest(summary.of(rows), target)
            for row in best:
                cells += ["none", ""] if row is None else [row.policy, number(row.epochs_share, 1, 100)]
            lines.append([*cells, number(_ratio(*best), 2)])
    header = ["corpus", "band", "regret up to", "others", "epochs, %", "ours", "epochs, %", "ours / others"]
    return Table("replay-equal-regret", "Fewest epochs at equal regret", header, lines)


def _cheapest(rows: Sequence[ReplayRow], target: float) -> list[ReplayRow | None]:
    """Of the other rules and of ours the cheapest whose regret is within the target."""
    within = [[row for row in rows if row.regret <= target and row.ours == ours] for ours in (False, True)]
    return [min(some, key=lambda row: row.epochs_share, default=None) for some in within]


def _ratio(others: ReplayRow | None, ours: ReplayRow | None) -> float | None:
    """The epochs of the cheapest of our rules, as a share of those of the cheapest other one."""
    return None if others is None or ours is None else ours.epochs_share / others.epochs_share


def goal_text(rows: Sequence[ReplayRow], summaries: Sequence[BandSummary]) -> str:
    """A sentence on how often our rules spend no more than `GOAL`."""
    ratios: dict[str, list[float]] = {}
    for summary in summaries:
        found = (_ratio(*_cheapest(summary.of(rows), target)) for target in TARGETS)
        ratios.setdefault(summary.corpus, []).extend(ratio for ratio in found if ratio is not None)
    counts = {name: sum(ratio <= GOAL for ratio in known) for name, known in ratios.items()}
    each = "; ".join(
        f"{name} in {counts[name]} of {len(known)} ({min(known):.2f} to {max(known):.2f})"
        for name, known in ratios.items()
        if known
    )
    total = sum(map(len, ratios.values()))
    return f"Ours spend a third or less in {sum(counts.values())} of {total} comparisons: {each}."


def draw(rows: Sequence[ReplayRow], summaries: Sequence[BandSummary], file: Path) -> None:
    """Draw regret against epochs spent: a panel for each corpus and band, a line for each family.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    corpora = list(dict.fromkeys(summary.corpus for summary in summaries))
    bands = list(dict.fromkeys(summary.band for summary in summaries))
    figure, panels = subplots(len(corpora), len(bands), (5.5 * len(bands), 3.4 * len(corpora)))
    grid = np.array(panels, dtype=object).reshape(len(corpora), len(bands))
    lines: dict[str, Any] = {}
    styles = _styles(rows)
    for axes in grid.flat:
        axes.set_visible(False)
    for summary in summaries:
        axes = grid[corpora.index(summary.corpus), bands.index(summary.band)]
        axes.set_visible(True)
        lines |= _panel(axes, summary.of(rows), styles)
        title = f"{summary.corpus}, {summary.band} runs"
        axes.set(title=title, xlabel="epochs spent, %", ylabel="regret, points")
    figure.tight_layout()
    legend = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "ncols": 3, "fontsize": "small"}
    figure.legend(lines.values(), lines.keys(), **legend)
    save(figure, file)


def _styles(rows: Sequence[ReplayRow]) -> dict[str, dict[str, Any]]:
    """Pale dashes for the other families; thick lines in different colours for ours."""
    styles: dict[str, dict[str, Any]] = {}
    for ours in (False, True):
        families = dict.fromkeys(row.family for row in rows if row.ours == ours)
        for position, family in enumerate(families):
            repeated = position >= 10  # there are ten colours
            look = (
                {"ls": "-." if repeated else "-", "lw": 2.0, "marker": "D" if repeated else "o"}
                if ours
                else {"ls": "--", "lw": 1.0, "marker": "Xsd^vP"[position % 6]}
            )
            size, alpha = (4, 1) if ours else (5, 0.75)
            styles[family] = {**look, "color": f"C{position % 10}", "ms": size, "alpha": alpha}
    return styles


def _panel(axes: Any, rows: Sequence[ReplayRow], styles: dict[str, dict[str, Any]]) -> dict[str, Any]:
    lines = {}
    for family in dict.fromkeys(row.family for row in rows):
        points = sorted((row.epochs_share, row.regret) for row in rows if row.family == family)
        x, y = 100 * np.array(points).T
        (lines[family],) = axes.plot(x, y, **styles[family])
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=_LINEAR)
    axes.set_ylim(bottom=-_LINEAR / 10)
    axes.set_xticks(ticks := [2, 5, 10, 20, 50, 100], [f"{tick:g}" for tick in ticks])
    return lines
