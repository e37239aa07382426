"""Tables of small trainings that were run for real, from their rows in results/."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from lightning_nndyn.evaluation.markdown import number, table
from lightning_nndyn.evaluation.result_file import read_rows

_RESULTS = Path(__file__).parent.parent / "results"

_WAYS = {
    "keep=0.08 (the default)": "`keep=0.08`, the default",
    "MedianPruner": "Optuna's `MedianPruner`",
    "SuccessiveHalvingPruner": "Optuna's `SuccessiveHalvingPruner`",
    "HyperbandPruner": "Optuna's `HyperbandPruner`",
}


def _rows(name: str) -> list[dict[str, Any]]:
    return read_rows(_RESULTS / f"{name}.parquet")[0]


def real_sweeps() -> str:
    """Epochs and the best accuracy of each way in each sweep."""
    rows = _rows("real_sweeps")
    sweeps = list(dict.fromkeys(row["sweep"] for row in rows))
    found = {(row["way"], row["sweep"]): row for row in rows}
    lines = []
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [found[way, sweep] for sweep in sweeps]
        cells = [
            number(row[what], digits, 100) for row in own for what, digits in (("epochs", 0), ("best", 1))
        ]
        lines.append([_WAYS.get(way, way), *cells])
    header = [f"{sweep}: {what}" for sweep in sweeps for what in ("epochs, %", "best, %")]
    return table(["stopping by", *header], lines)


def kinds_said() -> str:
    """What is said at the start: the same at each rate."""
    said = {
        row["kind"]: [
            row["kind"],
            f"`{row['monitor']}`",
            re.sub(r" \((high|low)er is better.*?\)", "", row["said"]),
        ]
        for row in _rows("eight_kinds")
    }
    return table(["training", "metric", "said at the start"], list(said.values()))


def kinds_done() -> str:
    """When runs were stopped, what was predicted, and what they reach."""
    lines = []
    for row in _rows("eight_kinds"):
        shares = row["mode"] == "max"
        reached = f"{row['reached']:.0%}" if shares else f"{row['reached'] or math.nan:.3g}"
        stopped = "" if row["stopped"] is None else f"{row['stopped']:.2g} of {row['epochs']}"
        cells = [row["rate"], stopped, number(row["predicted"], 0, 100), reached.replace("nan", "diverged")]
        lines.append([row["kind"], *(cell.replace("%", " %") for cell in cells)])
    header = ["training", "learning rate", "stopped after epochs", "predicted last, %", "reached in the end"]
    return table(header, lines)
