"""Good and low runs that the model of learning curves stops, of networks and data that it has not seen.

    python benchmarks/curve_model.py pretrained_predictors/*.parquet corpora/*.parquet corpora/sweeps

Each run is judged at the end of each epoch by a model that was fitted without its data set and without
families of networks like its own. A run is low if it ends less than half as far above guessing as the best of
its sweep. The threshold is that of the callback's default: at most 5 % of the good runs of each group of
families. It was set by the good runs that are counted here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lightning_nndyn.evaluation.cohort import load_recorded_sweeps
from lightning_nndyn.evaluation.fit_curve_model import (
    CurveRows,
    by_family_group,
    curve_rows,
    held_out_values,
    largest_of_runs,
)
from lightning_nndyn.predictor.policy import Policy
from lightning_nndyn.predictor.verdict import CURVE
from lightning_nndyn.signature.snapshot import Array, Mask


def trained_epochs(rows: CurveRows, values: Array, limit: float) -> Array:
    """For how long each run is trained if it is stopped at the first value above the limit; shape [runs]."""
    trained = rows.trained.astype(np.float64)
    above = values > limit
    np.minimum.at(trained, rows.run[above], rows.epochs[above])
    return trained


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpora", nargs="+", type=Path)
    parser.add_argument("--rate", type=float, default=0.05, help="share of good runs that may be stopped")
    of = parser.parse_args(argv)
    rows = curve_rows(load_recorded_sweeps(of.corpora))
    values = held_out_values(rows)
    largest = largest_of_runs(rows, values)
    limit = Policy({CURVE: by_family_group(rows, largest)}, of.rate).risk_threshold(CURVE)
    if limit is None:
        parser.error(f"no group of families has enough good runs for a rate of {of.rate}")
    stopped, trained = largest > limit, trained_epochs(rows, values, limit)

    def line(name: str, runs: Mask) -> str:
        good, low = runs & ~rows.low, runs & rows.low
        saved = 1 - trained[runs].sum() / rows.trained[runs].sum()
        counts = good.sum(), (good & stopped).sum(), low.sum(), (low & stopped).sum()
        return f"| {name} | {' | '.join(map(str, counts))} | {saved:.1%} |"

    print("| family | good | stopped | low | stopped | epochs saved |\n| --- | --- | --- | --- | --- | --- |")
    for family in np.unique(rows.families):
        print(line(str(family), rows.families == family))
    print(line("all", np.ones(len(stopped), dtype=bool)))


if __name__ == "__main__":
    main()
