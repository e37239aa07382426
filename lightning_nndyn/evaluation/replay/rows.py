"""The results of a replay: rows in a file, and a short summary of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lightning_nndyn.corpus.storage.folder import write_atomically
from lightning_nndyn.evaluation.benchmark.judged_runs import UNIVERSAL
from lightning_nndyn.evaluation.cache import Part
from lightning_nndyn.evaluation.figures import draw_points
from lightning_nndyn.evaluation.markdown import number, table
from lightning_nndyn.evaluation.replay.learned_policies import Learned
from lightning_nndyn.evaluation.replay.policies import SweepPolicy, name_of
from lightning_nndyn.evaluation.replay.result import ReplayResult
from lightning_nndyn.evaluation.result_file import BOTH, NOTHING, ONE, read_rows, write_rows

FILE = "replay.parquet"

DEFAULTS = {
    "no stopping": "no stopping",
    "patience 10": "patience of 10 epochs",
    "MedianPruner": "Optuna's `MedianPruner`",
    "SuccessiveHalvingPruner 1/4": "Optuna's `SuccessiveHalvingPruner`",
    "HyperbandPruner 1/3": "Optuna's `HyperbandPruner`",
    "learned in the sweep, false stops up to 5 %": "`keep=None`, no predictor",
    "weights and curve, false stops up to 5 %": "callback with a predictor",
    "race by weights, keeping 6 %": "`race` with a predictor",
    "race by universal, keeping 6 %": "`race` with `universal`",
}
"""The rules that summaries show, each with its default settings; and their names for readers."""

_DIGITS = 5
_NUMBERS = ("epochs_share", "regret", "good_stopped", "best_kept")


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
        knows: what was in the runs that the rule has learned from.
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
    knows: str
    seconds: float

    @classmethod
    def from_part(cls, corpus: str, band: str, policy: SweepPolicy, key: str, part: Part) -> ReplayRow:
        """The row of a part that `part_of` or `published_parts` gave."""
        return cls(
            corpus=corpus,
            band=band,
            policy=name_of(policy),
            part=key,
            family=policy.family,
            ours=policy.ours,
            knows=_knows(policy),
            **part,
        )


def _knows(policy: SweepPolicy) -> str:
    if isinstance(policy, Learned) or not policy.ours:
        return NOTHING
    return ONE if UNIVERSAL in policy.family else BOTH


def part_of(result: ReplayResult) -> Part:
    """The numbers of a result that are published, rounded."""
    numbers = {name: getattr(result, name) for name in _NUMBERS}
    return {name: value if value is None else round(value, _DIGITS) for name, value in numbers.items()}


def published_parts(folder: Path) -> dict[str, Part]:
    """The numbers in a folder, by the keys of their parts; none where there is no file."""
    rows, _ = read_rows(folder / FILE)
    return {row["part"]: {name: row[name] for name in _NUMBERS} | {"seconds": 0.0} for row in rows}


def write(rows: Sequence[ReplayRow], sweeps: int, size: int, folder: Path) -> None:
    """Write `replay.parquet`, and `replay.md` with a figure.

    Raises:
        MissingExtraError: pyarrow or matplotlib is not installed.
        CorpusError: the folder cannot be written.
    """
    published = [asdict(row) for row in rows]
    for row in published:
        del row["seconds"]
    write_rows(folder / FILE, published, {"sweeps": sweeps, "size": size})
    defaults = summary(rows)
    draw_defaults(defaults, folder / "replay.svg")
    parts = [
        "# What stopping saves in a sweep, replayed",
        f"Each rule at its default, on {sweeps} sweeps of {size} runs of each corpus. `{FILE}` has all.",
        summary_table(defaults),
        "![Points missed against epochs spent](replay.svg)",
    ]
    write_atomically(folder / "replay.md", "\n\n".join([*parts, ""]).encode())


@dataclass(frozen=True)
class RuleSummary:
    """A rule over all corpora.

    Attributes:
        title: for readers.
        knows: see `ReplayRow`.
        epochs: the mean share of the epochs that is spent, per cent.
        missed: the mean of the points of accuracy that are missed.
        most_missed: in the corpus where it is most.
        corpus: which that is.
    """

    title: str
    knows: str
    epochs: float
    missed: float
    most_missed: float
    corpus: str


def summary(rows: Sequence[ReplayRow]) -> list[RuleSummary]:
    """Each rule of `DEFAULTS` over all runs of all corpora."""
    found = []
    for policy, title in DEFAULTS.items():
        own = [row for row in rows if (row.policy, row.band) == (policy, "all")]
        if own:
            worst = max(own, key=lambda row: row.regret)
            epochs, missed = (
                100 * float(np.mean([getattr(row, name) for row in own]))
                for name in ("epochs_share", "regret")
            )
            found.append(RuleSummary(title, own[0].knows, epochs, missed, 100 * worst.regret, worst.corpus))
    return found


def summary_table(rules: Sequence[RuleSummary]) -> str:
    """A line for each rule."""
    header = ["stopping by", "knows", "epochs, %", "points missed, mean", "points missed, most"]
    lines = [
        [
            rule.title,
            rule.knows,
            number(rule.epochs, 0),
            number(rule.missed, 2),
            f"{number(rule.most_missed, 2)} ({rule.corpus})" if rule.most_missed else "0",
        ]
        for rule in rules
    ]
    return table(header, lines)


def draw_defaults(rules: Sequence[RuleSummary], file: Path) -> None:
    """Draw the points that rules miss against the epochs that they spend, a colour for what they know.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    groups: dict[str, dict[str, tuple[float, float]]] = {}
    for rule in rules:
        name = rule.title.replace("`", "").removeprefix("Optuna's ")
        groups.setdefault(rule.knows, {})[name] = rule.epochs, rule.missed
    draw_points(groups, file, x="epochs spent, % of all", y="points of accuracy missed, mean")
