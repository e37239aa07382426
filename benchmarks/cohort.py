"""How well the runs of a sweep are ranked and stopped by a model that knows neither network nor data.

Usage: python benchmarks/cohort.py [--orders 3] [--families-only] [--without weights] [--rows FILE]
           [CORPUS ...]

For each group of families, and each data set, a model is fitted to all recorded sweeps but those of the group
and those on the data set. Without corpora it takes all that the repository has. It prints Spearman's
correlations with the final accuracy (means over the sweeps, with the standard error), and what our rules and
Optuna's pruners spend and miss by default where the runs are trained one after the other. `--rows` writes
these numbers to a file: the pages of results are made from results/cohort.parquet.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nndyn.evaluation.cohort.held_out import (
    TIMES,
    Outcome,
    held_out_models,
    pruned,
    rank_correlations,
    replayed,
)
from lightning_nndyn.evaluation.cohort.recorded_sweeps import load_recorded_sweeps
from lightning_nndyn.evaluation.result_file import NOTHING, write_rows
from lightning_nndyn.sweep import ChanceRule, CohortRule
from lightning_nndyn.sweep.cohort import CURVE_INPUTS, RATE_INPUTS, WEIGHT_INPUTS

_ROOT = Path(__file__).parent.parent
_PRUNERS = {"median": "MedianPruner", "asha": "SuccessiveHalvingPruner", "hyperband": "HyperbandPruner"}


_INPUTS: dict[str | None, tuple[str, ...]] = {
    "weights": (*WEIGHT_INPUTS, "has_weights"),
    "curve": (*CURVE_INPUTS, "has_metric"),
    "learning rate": RATE_INPUTS,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", nargs="*", type=Path)
    parser.add_argument("--orders", type=int, default=3, help="in which each sweep's runs are trained")
    parser.add_argument("--families-only", action="store_true", help="leave data sets in")
    parser.add_argument("--without", choices=list(_INPUTS), help="inputs that the models ignore")
    parser.add_argument("--rows", type=Path, help="file to write the numbers to")
    arguments = parser.parse_args()
    sweeps = load_recorded_sweeps(arguments.corpora or _all_corpora())
    correlations: dict[tuple[str, float], list[float]] = defaultdict(list)
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    number = 0
    left_out = _INPUTS.get(arguments.without, ())
    models = held_out_models(
        sweeps, leave_out_datasets=not arguments.families_only, leave_out_inputs=left_out
    )
    for model, unseen in models:
        rules = {
            "keep=0.08 (the default)": CohortRule(model=model).decide,
            "keep=0.03": CohortRule(0.03, model).decide,
            "hardly a chance (no tuner)": ChanceRule(model=model).decide,
        }
        for sweep in unseen:
            for time in TIMES:
                for name, value in (rank_correlations(sweep, model, time) or {}).items():
                    correlations[name, time].append(value)
            for seed in range(arguments.orders):
                order = np.random.default_rng([seed, number]).permutation(len(sweep.runs)).tolist()
                for name, rule in rules.items():
                    outcomes[name].append(replayed(sweep, rule, order))
                for name, title in _PRUNERS.items():
                    outcomes[title].append(pruned(sweep, name, order, seed))
            number += 1
    _print_correlations(correlations)
    if arguments.rows:
        write_rows(arguments.rows, _rows(correlations, outcomes), {"sweeps": number})
    if outcomes:
        _print_outcomes(outcomes, number)


def _all_corpora() -> list[Path]:
    folders = (_ROOT / "corpora", _ROOT / "corpora" / "begun", _ROOT / "pretrained_predictors")
    return [file for folder in folders for file in sorted(folder.glob("*.parquet"))]


def _rows(
    correlations: dict[tuple[str, float], list[float]], outcomes: dict[str, list[Outcome]]
) -> list[dict[str, Any]]:
    """The means that are printed, each with its standard error."""
    found = {(name, "spearman", time): values for (name, time), values in correlations.items()} | {
        (name, metric, None): [getattr(outcome, metric) for outcome in own]
        for name, own in outcomes.items()
        for metric in ("epochs", "regret", "lost")
    }
    rows = []
    for (name, metric, time), values in found.items():
        known = np.array(values)[np.isfinite(values)]
        numbers = {"value": float(known.mean()), "error": float(known.std() / np.sqrt(len(known)))}
        rows.append({"method": name, "knows": NOTHING, "t": time, "metric": metric} | numbers)
    return rows


def _print_correlations(found: dict[tuple[str, float], list[float]]) -> None:
    print(f"{'Spearman after epochs':26}" + "".join(f"{time:>14g}" for time in TIMES))
    for name in dict.fromkeys(name for name, _ in found):
        cells = [np.array(found.get((name, time), [np.nan])) for time in TIMES]
        print(f"{name:26}" + "".join(f"{_mean(cell):>14}" for cell in cells))


def _mean(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return f"{known.mean():.2f} +- {known.std() / np.sqrt(len(known)):.2f}" if len(known) else "-"


def _print_outcomes(found: dict[str, list[Outcome]], count: int) -> None:
    print(f"\n{count} sweeps, one run after the other; means")
    print(f"{'':28}{'epochs':>10}{'points missed':>16}{'best quarter lost':>20}")
    for name, outcomes in found.items():
        epochs, regret, lost = (
            100 * np.mean([getattr(o, field) for o in outcomes]) for field in ("epochs", "regret", "lost")
        )
        print(f"{name:28}{epochs:>8.1f} %{regret:>16.2f}{lost:>18.1f} %")


if __name__ == "__main__":
    main()
