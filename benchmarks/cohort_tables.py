"""Tables and the figure of `nndyn evaluate cohort`, for the pages of results."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lightning_nndyn.evaluation.cohort.compare import (
    ALL_GRIDS,
    ALL_SWEEPS,
    LATER_SWEEPS,
    MEAN_OF_GRIDS,
    MEAN_OF_SWEEPS,
)
from lightning_nndyn.evaluation.cohort.outcome import BUDGETS
from lightning_nndyn.evaluation.figures import draw_points
from lightning_nndyn.evaluation.markdown import epochs_text, number, table
from lightning_nndyn.evaluation.result_file import read_rows

_FILE = Path(__file__).parent.parent / "results" / "cohort.parquet"

_WAYS = {
    "keep=0.08": "`keep=0.08`, the default",
    "keep=0.03": "`keep=0.03`",
    "keep=0.2": "`keep=0.2`",
    "race 6 %": "`race`, the default",
    "race 25 %": "`race` that keeps a quarter",
    "no tuner": "a run without a tuner",
    "MedianPruner": "Optuna's `MedianPruner`",
    "SuccessiveHalvingPruner 1/4": "Optuna's `SuccessiveHalvingPruner`",
    "HyperbandPruner 1/3": "Optuna's `HyperbandPruner`",
}
_RANKINGS = (
    "cohort",
    "cohort without weights",
    "weights add",
    "accuracy so far",
    "loss so far",
    "learning rate",
)
_UNITS = {
    MEAN_OF_SWEEPS: "geometric mean of these groups",
    ALL_SWEEPS: "all sweeps together",
    MEAN_OF_GRIDS: "geometric mean of these grids",
}


@cache
def _rows() -> dict[tuple[str, str, str, float | None], dict[str, Any]]:
    rows, _ = read_rows(_FILE)
    return {(row["unit"], row["method"], row["metric"], row["t"]): row for row in rows}


def _mean(unit: str, method: str, metric: str, t: float | None = None) -> float | None:
    row = _rows().get((unit, method, metric, t))
    return None if row is None else row["value"]


def ways_table() -> str:
    """What each way spends and misses."""
    header = ["stopping by", "epochs, %", "points missed", "best quarter lost, %", "missed in later sweeps"]
    lines = []
    for way, title in _WAYS.items():
        cells = [
            number(_mean(ALL_SWEEPS, way, "epochs"), 0, 100),
            number(_mean(ALL_SWEEPS, way, "regret"), 2, 100),
        ]
        cells += [
            number(_mean(ALL_SWEEPS, way, "lost"), 0, 100),
            number(_mean(LATER_SWEEPS, way, "regret"), 2, 100),
        ]
        lines.append([title, *cells])
    return table(header, lines)


def budgets_table() -> str:
    """What each way misses once a part of the epochs is spent."""
    header = ["points missed after", *(f"{100 * budget:g} % of the epochs" for budget in BUDGETS)]
    ways = {"no stopping": "no stopping", **_WAYS}
    lines = [
        [title, *(number(_mean(ALL_SWEEPS, way, "regret at budget", budget), 1, 100) for budget in BUDGETS)]
        for way, title in ways.items()
        if way != "no tuner"
    ]
    return table(header, lines)


def ratios_table() -> str:
    """Our epochs over those of the others, for each group of networks that is left out."""
    rows = [row for row in _rows().values() if row["metric"] == "default ratio"]
    lines = []
    for row in sorted(
        rows,
        key=lambda row: (row["is_grid"], [*_UNITS].index(row["unit"]) + 1 if row["unit"] in _UNITS else 0),
    ):
        if row["unit"] not in (LATER_SWEEPS, ALL_GRIDS):
            frontier = _mean(row["unit"], row["method"], "frontier ratio")
            name = _UNITS.get(row["unit"], row["unit"])
            lines.append([name, number(row["value"], 2), number(frontier, 2)])
    return table(["networks left out of the fit", "defaults", "frontiers"], lines)


def ranks_table() -> str:
    """Rank correlations with the final accuracy."""
    times = sorted({t for _, _, metric, t in _rows() if metric == "spearman" and t is not None})
    lines = []
    for method in _RANKINGS:
        rows = [_rows().get((ALL_SWEEPS, method, "spearman", time)) for time in times]
        lines.append([method, *(_with_error(row) if row else "" for row in rows)])
    return table(["after epochs", *map(epochs_text, times)], lines)


def _with_error(row: Mapping[str, Any]) -> str:
    return f"{number(row['value'], 2)} ± {number(row['error'], 2)}"


def draw_ways(file: Path) -> None:
    """Draw the points that ways miss against the epochs that they spend."""
    points = {
        way.partition(" 1/")[0]: (
            100 * (_mean(ALL_SWEEPS, way, "epochs") or 0.0),
            100 * (_mean(ALL_SWEEPS, way, "regret") or 0.0),
        )
        for way in _WAYS
    }
    ours = {name: point for name, point in points.items() if "Pruner" not in name}
    others = {name: point for name, point in points.items() if name not in ours}
    draw_points(
        {"ours": ours, "Optuna": others}, file, x="epochs spent, % of all", y="points of accuracy missed"
    )
