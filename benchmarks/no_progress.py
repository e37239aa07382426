"""Good and low runs that are stopped because they have learned nothing in half of their plan.

    python benchmarks/no_progress.py pretrained_predictors/*.parquet corpora/*.parquet corpora/sweeps

A run is good if its best accuracy is at least half as far above guessing as that of the best run on the same
network and data. Runs that diverged are left out: they are stopped by their weights. `lost` is how much more
accurate the good runs among the stopped became afterwards.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_nndyn.corpus.storage import RunRecord, load_corpus
from lightning_nndyn.evaluation.dataset import curve_of
from lightning_nndyn.evaluation.fit_corpora import LOW_SHARE
from lightning_nndyn.predictor.low_accuracy import LowAccuracyRule
from lightning_nndyn.predictor.no_progress import no_progress


class Counts(NamedTuple):
    """What became of a corpus: runs, those stopped, epochs saved of all, and accuracy lost."""

    good: int
    good_stopped: int
    low: int
    low_stopped: int
    saved: float
    lost: float


def stopped_after(record: RunRecord) -> int:
    """The epoch after which a run is stopped; all of its epochs if it is not."""
    curve, planned = curve_of(record), record.config["epochs"]
    for epoch in range(1, len(curve.accuracies)):
        losses = {time: loss for time, loss in curve.losses.items() if time <= epoch}
        values = curve.accuracies[:epoch]
        if no_progress(values, losses, planned, name="accuracy", mode="max", classes=curve.classes):
            return epoch
    return len(curve.accuracies)


def count(records: Sequence[RunRecord]) -> Counts:
    """Counts the runs of one corpus."""
    runs = [one for one in records if one.diverged_epoch is None and one.curve["test_accuracy"]]
    best: defaultdict[str, float] = defaultdict(float)
    for run in runs:
        best[_population(run)] = max(best[_population(run)], run.best_accuracy)
    rule, good, low = LowAccuracyRule(share=LOW_SHARE), [], []
    for run in runs:
        guess = 1 / run.config["network_options"]["num_classes"]
        lowest = rule.lowest_good_accuracy(best[_population(run)], guess)
        (good if run.best_accuracy >= lowest else low).append((run, stopped_after(run)))
    stops = [(run, epoch) for run, epoch in good + low if epoch < len(run.curve["test_accuracy"])]
    losses = [run.best_accuracy - max(run.curve["test_accuracy"][:epoch]) for run, epoch in stops]
    in_good = [loss for loss, stop in zip(losses, stops, strict=True) if stop in good]
    epochs = sum(len(run.curve["test_accuracy"]) for run in runs)
    saved = sum(len(run.curve["test_accuracy"]) - epoch for run, epoch in stops)
    return Counts(len(good), len(in_good), len(low), len(stops) - len(in_good), saved / epochs, sum(in_good))


def _population(run: RunRecord) -> str:
    return f"{run.config.get('network')} {run.config['dataset']} {run.config.get('sweep')}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpora", nargs="+", type=Path)
    print("| corpus | good | stopped | low | stopped | epochs saved | lost |\n| --- " + "| --- " * 6 + "|")
    for corpus in parser.parse_args(argv).corpora:
        found = count(load_corpus(corpus))
        cells = (*found[:4], f"{found.saved:.1%}", f"{found.lost:.3f}")
        print("|", " | ".join(map(str, (corpus.stem, *cells))), "|", flush=True)


if __name__ == "__main__":
    main()
