"""What a replay found, as rows for machines, and as tables and a figure for readers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nndyn.corpus.storage.folder import write_atomically
from lightning_nndyn.evaluation.benchmark.evaluate import with_tables
from lightning_nndyn.evaluation.benchmark.tables import Table, save, subplots
from lightning_nndyn.evaluation.replay.outcome import Outcome
from lightning_nndyn.evaluation.replay.sampled_sweeps import Run

TARGETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02)
"""Regrets at which the fewest epochs are compared, fractions of accuracy."""

GOAL = 1 / 3
"""Of the epochs that the best of the others spends."""

_HEADER = ("stopping by", "epochs, %", "regret, points", "good stopped, %", "best kept, %")
_LINEAR = 0.1  # points of regret up to which the figure's axis is linear: none at all has no logarithm


@dataclass(frozen=True)
class Subject:
    """What is replayed.

    Attributes:
        corpus: its name.
        band: "all" or "trainable".
        runs: how many there are to draw from.
        good: how many of them are good.
        size: runs in a sweep, the least and the most.
        datasets: how many the sweeps are on in turn.
    """

    corpus: str
    band: str
    runs: int
    good: int
    size: tuple[int, int]
    datasets: int

    @classmethod
    def of(cls, corpus: str, band: str, runs: Sequence[Run], sweeps: Sequence[Sequence[Run]]) -> Subject:
        """Of runs and the sweeps that were drawn of them."""
        datasets = {run.dataset for sweep in sweeps for run in sweep}
        chosen = [run for run in runs if run.dataset in datasets and (band == "all" or run.trainable)]
        sizes = Counter(map(len, sweeps))
        return cls(
            corpus,
            band,
            len(chosen),
            sum(run.good for run in chosen),
            (min(sizes), max(sizes)),
            len(datasets),
        )

    def __str__(self) -> str:
        """A heading."""
        low, high = self.size
        size = str(high) if low == high else f"{low} to {high}"
        on = f", each on one of {self.datasets} data sets" if self.datasets > 1 else ""
        runs = f"{self.band} {self.runs} runs" if self.band == "all" else f"{self.runs} {self.band} runs"
        return f"{self.corpus}: sweeps of {size} out of {runs} ({self.good} good){on}"


def write(
    outcomes: Sequence[Outcome], subjects: Sequence[Subject], sweeps: int, size: int, folder: Path
) -> None:
    """Write `replay.json`, `replay.md` and `figures/replay.png`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        CorpusError: the folder cannot be written.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    draw(outcomes, subjects, folder / "figures" / "replay.png")
    rows = ",\n".join(json.dumps(outcome.row()) for outcome in outcomes)
    head = f'{{"sweeps": {sweeps}, "size": {size}, "rows": [\n'
    write_atomically(folder / "replay.json", f"{head}{rows}\n]}}\n".encode())
    page = folder / "replay.md"
    before = page.read_text() if page.exists() else ""
    write_atomically(page, with_tables(before, tables(outcomes, subjects)).encode())


def tables(outcomes: Sequence[Outcome], subjects: Sequence[Subject]) -> str:
    """All tables as Markdown."""
    parts = [
        "![Regret against epochs spent](figures/replay.png)",
        "## Fewest epochs at equal regret",
        reached(outcomes, subjects),
        equal_regret(outcomes, subjects).markdown(),
    ]
    for subject in subjects:
        parts += [f"## {subject}", _table(_of(outcomes, subject)).markdown()]
    return "\n\n".join(parts)


def _of(outcomes: Sequence[Outcome], subject: Subject) -> list[Outcome]:
    return [one for one in outcomes if (one.corpus, one.band) == (subject.corpus, subject.band)]


def equal_regret(outcomes: Sequence[Outcome], subjects: Sequence[Subject]) -> Table:
    """For each regret the fewest epochs that any of the others spends for it, and any of ours."""
    lines = [list(line) for subject in subjects for line in _compared(_of(outcomes, subject), subject)]
    header = ["corpus", "band", "regret up to", "others", "epochs, %", "ours", "epochs, %", "ours / others"]
    return Table("replay-equal-regret", "Fewest epochs at equal regret", header, lines)


def _compared(outcomes: Sequence[Outcome], subject: Subject) -> Iterator[list[str]]:
    for target in TARGETS:
        best = [_cheapest(outcomes, target, ours) for ours in (False, True)]
        cells = [
            cell
            for one in best
            for cell in (["none", ""] if one is None else [one.policy, _percent(one.epochs_share)])
        ]
        ratio = _ratio(outcomes, target)
        yield [
            subject.corpus,
            subject.band,
            f"{100 * target:g}",
            *cells,
            "" if ratio is None else f"{ratio:.2f}",
        ]


def _cheapest(outcomes: Sequence[Outcome], target: float, ours: bool) -> Outcome | None:
    within = [one for one in outcomes if one.regret <= target and one.ours == ours]
    return min(within, key=lambda one: one.epochs_share, default=None)


def _ratio(outcomes: Sequence[Outcome], target: float) -> float | None:
    """Epochs that the cheapest of ours spends, for one that the cheapest of the others spends."""
    others, own = _cheapest(outcomes, target, False), _cheapest(outcomes, target, True)
    return None if others is None or own is None else own.epochs_share / others.epochs_share


def reached(outcomes: Sequence[Outcome], subjects: Sequence[Subject]) -> str:
    """How often ours spend no more than `GOAL`, in words."""
    ratios: dict[str, list[float]] = {}
    for subject in subjects:
        found = (_ratio(_of(outcomes, subject), target) for target in TARGETS)
        ratios.setdefault(subject.corpus, []).extend(one for one in found if one is not None)
    counts = {name: sum(one <= GOAL for one in known) for name, known in ratios.items()}
    each = "; ".join(
        f"{name} in {counts[name]} of {len(known)} ({min(known):.2f} to {max(known):.2f})"
        for name, known in ratios.items()
        if known
    )
    total = sum(map(len, ratios.values()))
    return f"Ours spend a third or less in {sum(counts.values())} of {total} comparisons: {each}."


def _table(outcomes: Sequence[Outcome]) -> Table:
    lines = [
        [
            f"**{one.policy}**" if one.ours else one.policy,
            _percent(one.epochs_share),
            f"{100 * one.regret:.2f}",
            "" if one.good_stopped is None else _percent(one.good_stopped),
            _percent(one.best_kept),
        ]
        for one in outcomes
    ]
    return Table("replay", "", _HEADER, lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def draw(outcomes: Sequence[Outcome], subjects: Sequence[Subject], file: Path) -> None:
    """Draw regret against epochs spent, a panel for each corpus and band, a line for each family.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    corpora, bands = (
        list(dict.fromkeys(names)) for names in zip(*((s.corpus, s.band) for s in subjects), strict=True)
    )
    figure, panels = subplots(len(corpora), len(bands), (5.5 * len(bands), 3.4 * len(corpora)))
    grid = np.array(panels, dtype=object).reshape(len(corpora), len(bands))
    lines: dict[str, Any] = {}
    styles = _styles(outcomes)
    for axes in grid.flat:
        axes.set_visible(False)
    for subject in subjects:
        axes = grid[corpora.index(subject.corpus), bands.index(subject.band)]
        axes.set_visible(True)
        lines |= _panel(axes, _of(outcomes, subject), styles)
        axes.set(
            title=f"{subject.corpus}, {subject.band} runs", xlabel="epochs spent, %", ylabel="regret, points"
        )
    figure.tight_layout()
    figure.legend(
        lines.values(), lines.keys(), loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, fontsize="small"
    )
    save(figure, file)


def _styles(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Others in pale dashes; ours thick and solid, each with a colour of its own."""
    styles: dict[str, dict[str, Any]] = {}
    for ours in (False, True):
        families = dict.fromkeys(one.family for one in outcomes if one.ours == ours)
        for number, family in enumerate(families):
            again = number >= 10  # the colours begin anew
            look = (
                {"ls": "-." if again else "-", "lw": 2.0, "marker": "D" if again else "o"}
                if ours
                else {"ls": "--", "lw": 1.0, "marker": "Xsd^vP"[number % 6]}
            )
            styles[family] = {
                **look,
                "color": f"C{number % 10}",
                "ms": 4 if ours else 5,
                "alpha": 1 if ours else 0.75,
            }
    return styles


def _panel(axes: Any, outcomes: Sequence[Outcome], styles: dict[str, dict[str, Any]]) -> dict[str, Any]:
    lines = {}
    for family in dict.fromkeys(one.family for one in outcomes):
        own = sorted((one.epochs_share, one.regret) for one in outcomes if one.family == family)
        x, y = 100 * np.array(own).T
        (lines[family],) = axes.plot(x, y, **styles[family])
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=_LINEAR)
    axes.set_ylim(bottom=-_LINEAR / 10)
    axes.set_xticks(ticks := [2, 5, 10, 20, 50, 100], [f"{tick:g}" for tick in ticks])
    return lines
