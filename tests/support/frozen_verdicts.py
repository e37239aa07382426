"""What every shipped predictor predicts for recorded runs, frozen: a change of the code must not change it.

`python tests/support/frozen_verdicts.py` freezes the verdicts anew, after predictors were fitted anew.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from lightning_nndyn.predictor import LearningCurve, list_predictors, load_predictor
from lightning_nndyn.signature.snapshot import Snapshot

FOLDER = Path(__file__).parents[1] / "predictor" / "frozen"
ENDS = (2, 4, 7)
"""How many snapshots of a run a verdict rests on."""


@cache
def recorded_runs() -> dict[str, tuple[list[Snapshot], LearningCurve]]:
    """Low and good runs of the shipped corpora up to epoch 2, by the corpus and the run's rank in it."""
    plain = json.loads(gzip.decompress((FOLDER / "recorded_runs.json.gz").read_bytes()))
    return {name: (list(map(Snapshot.from_dict, run["history"])), _curve(run)) for name, run in plain.items()}


def _curve(run: dict[str, Any]) -> LearningCurve:
    return LearningCurve(
        {time: (mean, late) for time, mean, late in run["losses"]}, run["accuracies"], run["classes"]
    )


def frozen_verdicts() -> dict[str, dict[str, dict[str, Any]]]:
    """For each predictor the verdicts by the same names as in `verdicts_of`."""
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(
        gzip.decompress((FOLDER / "verdicts.json.gz").read_bytes())
    )
    return found


def verdicts_of(predictor: str) -> dict[str, dict[str, Any]]:
    """Verdicts on all recorded runs, by the run, the number of its snapshots, and what was read."""
    loaded = load_predictor(predictor)
    return {
        f"{name}, {end} snapshots, {inputs}": asdict(loaded.predict(history[:end], curve=given))
        for name, (history, curve) in recorded_runs().items()
        for end in ENDS
        for inputs, given in (("weights", None), ("with curve", curve))
    }


if __name__ == "__main__":
    content = json.dumps({name: verdicts_of(name) for name in list_predictors()}).encode()
    (FOLDER / "verdicts.json.gz").write_bytes(gzip.compress(content, 9, mtime=0))
