"""How many good runs are lost by a predictor that knows shorter runs only, by how long they were planned for.

    python benchmarks/horizon.py pretrained_predictors/*.parquet corpora/*.parquet

A predictor is fitted to all populations but one, and follows the runs of that one as if it did not know how
long they are to be. What became of them is then read off their curves as if they had ended earlier: the best
accuracy so far, against the best of all runs so far. It is the same runs, verdicts and stops in each row.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.evaluation.benchmark.false_stop_rates import METHODS, follow
from lightning_nndyn.evaluation.dataset import Collection
from lightning_nndyn.evaluation.fit_corpora import LOW_SHARE
from lightning_nndyn.predictor import Predictor
from lightning_nndyn.predictor.low_accuracy import relative_accuracies
from lightning_nndyn.predictor.policy import Policy


def stops(predictor: Predictor, runs: Collection, kind: str) -> NDArray[np.bool_]:
    """Which runs are stopped by models of a kind, whatever their length."""
    policy = Policy.from_predictor(predictor)
    unplanned = replace(runs, trainings=[replace(one, planned_epochs=None) for one in runs.trainings])
    return np.array([policy.decide(course.verdicts).stop for course in follow(predictor, unplanned, kind)])


def low(runs: Collection, epochs: int) -> NDArray[np.bool_]:
    """Which runs would have been low had all of them ended after so many epochs."""
    best = np.array([max(curve.accuracies[:epochs]) for curve in runs.curves])
    guesses = np.array([1 / curve.classes for curve in runs.curves])
    return np.asarray(relative_accuracies(best, runs.populations, guesses) < LOW_SHARE)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpora", nargs="+", type=Path)
    parser.add_argument("--without", default="lenet5-digits on digits", help="the population left out")
    parser.add_argument("--epochs", nargs="+", type=int, default=[10, 15, 20, 25, 30, 37, 50])
    args = parser.parse_args(argv)
    union = Collection.load(args.corpora)
    out = union.populations == args.without
    if not out.any():
        raise SystemExit(f"{args.without!r} is none of {', '.join(np.unique(union.populations))}")
    predictor = union.take(~out).fit(Predictor(low_share=LOW_SHARE))
    known = predictor.card["domain"]["most_epochs"]
    print(f"{args.without}, by a predictor over all else, whose longest run has {known:g} epochs")
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
