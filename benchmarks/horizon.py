"""Share of good runs that a predictor fitted to shorter runs would stop, by their planned length.

    python benchmarks/horizon.py pretrained_predictors/*.parquet corpora/*.parquet

A predictor is fitted to all populations but one, and judges the runs of that one without their planned
length. Each row then labels the same runs, with the same verdicts and stops, as if they had ended after so
many epochs: by the best accuracy until then, against the best of all runs until then.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.evaluation.benchmark.judged_runs import METHODS, judge
from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.evaluation.fit_corpora import LOW_SHARE
from lightning_nndyn.predictor import Predictor
from lightning_nndyn.predictor.low_accuracy import relative_accuracies
from lightning_nndyn.predictor.policy import Policy


def stops(predictor: Predictor, runs: RunDataset, kind: str) -> NDArray[np.bool_]:
    """Which runs are stopped by models of a kind, without their planned length."""
    policy = Policy.from_predictor(predictor)
    unplanned = replace(runs, trainings=[replace(one, planned_epochs=None) for one in runs.trainings])
    return np.array([policy.decide(run.verdicts).stop for run in judge(predictor, unplanned, kind)])


def low(runs: RunDataset, epochs: int) -> NDArray[np.bool_]:
    """Which runs would be low if all had ended after so many epochs."""
    best = np.array([max(curve.accuracies[:epochs]) for curve in runs.curves])
    guesses = np.array([1 / curve.classes for curve in runs.curves])
    return np.asarray(relative_accuracies(best, runs.populations, guesses) < LOW_SHARE)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpora", nargs="+", type=Path)
    parser.add_argument("--without", default="lenet5-digits on digits", help="the population left out")
    parser.add_argument("--epochs", nargs="+", type=int, default=[10, 15, 20, 25, 30, 37, 50])
    args = parser.parse_args(argv)
    union = RunDataset.load(args.corpora)
    out = union.populations == args.without
    if not out.any():
        raise SystemExit(f"{args.without!r} is none of {', '.join(np.unique(union.populations))}")
    predictor = union.take(~out).fit(Predictor(low_share=LOW_SHARE))
    known = predictor.card["domain"]["most_epochs"]
    print(f"{args.without}, by a predictor of all other populations, whose longest run has {known:g} epochs")
    print(
        "| planned for | good | "
        + " | ".join(f"lost, {kind} | low stopped, {kind}" for kind in METHODS)
        + " |"
    )
    print("| --- " * (2 + 2 * len(METHODS)) + "|")
    tested = union.take(out)
    stopped = {kind: stops(predictor, tested, kind) for kind in METHODS}
    for epochs in args.epochs:
        bad = low(tested, epochs)
        cells = [f"{stopped[kind][among].mean():.1%}" for kind in METHODS for among in (~bad, bad)]
        print(f"| {epochs} | {(~bad).sum()} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
