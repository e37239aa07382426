"""What a corpus holds, in a dozen numbers."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_nndyn.corpus.storage import corpus_manifest, load_corpus
from lightning_nndyn.corpus.storage.folder import CorpusFolder
from lightning_nndyn.corpus.storage.record import RunRecord


def corpus_status(path: Path | str) -> dict[str, Any]:
    """What a corpus folder or parquet file holds, as JSON-able values.

    `low_share` is the share of runs whose best accuracy is below the preset's threshold for their data set,
    or for their sweep; a run counts as trainable when it did not diverge and its best accuracy is at least
    twice that of guessing.
    Runs that failed count as runs and as failed, and nowhere else.

    Raises:
        CorpusError: There is no corpus, or it cannot be read.
        MissingExtraError: The path is a parquet file and pyarrow is not installed.
    """
    path = Path(path)
    damaged = 0 if path.is_file() else len(CorpusFolder(path).complete()[1])
    return _status(corpus_manifest(path), load_corpus(path, raw=False)) | {"damaged": damaged}


def training_images(manifest: Mapping[str, Any]) -> int:
    """On how many images a run of a corpus is trained at most."""
    available = max(data["train_images"] for data in manifest["data"].values())
    return min(manifest["settings"]["images"] or available, available)


def low_threshold(settings: Mapping[str, Any], dataset: str) -> float:
    """The accuracy below which a run on that data set is low."""
    threshold: float | Mapping[str, float] = settings["low_threshold"]
    return threshold[dataset] if isinstance(threshold, Mapping) else threshold


def low_bars(settings: Mapping[str, Any], records: Sequence[RunRecord]) -> list[float]:
    """The accuracy below which each run is low, for its data set or for its sweep.

    In a sweep it lies some way from guessing to the best of its runs that are among the records.
    """
    best: dict[int, float] = {}
    for record in records:
        sweep, accuracy = record.config.get("sweep"), record.best_accuracy
        if sweep is not None and not math.isnan(accuracy):
            best[sweep] = max(best.get(sweep, 0.0), accuracy)
    return [_low_bar(settings, record.config, best) for record in records]


def _low_bar(settings: Mapping[str, Any], config: Mapping[str, Any], best: Mapping[int, float]) -> float:
    if config.get("sweep") is None:
        return low_threshold(settings, config["dataset"])
    guess: float = config["guess"]
    share: float = settings["low_share"]
    return guess + share * max(0.0, best.get(config["sweep"], guess) - guess)


def _status(manifest: dict[str, Any], records: list[RunRecord]) -> dict[str, Any]:
    settings = manifest["settings"]
    whole = [record for record in records if not record.failed]
    best = [record.best_accuracy for record in whole]
    low = sum(accuracy < bar for accuracy, bar in zip(best, low_bars(settings, whole), strict=True))
    return {
        "corpus": settings["name"],
        "network": settings.get("network", "random"),
        "dataset": ", ".join(settings["datasets"]),
        "runs": len(records),
        "planned_runs": settings["planned_runs"],
        "epochs": settings["epochs"],
        "images": training_images(manifest),
        "low_share": low / len(whole) if whole else None,
        "trainable_runs": sum(is_trainable(record, manifest) for record in whole),
        "band_runs": sum(record.config["sampling"] == "band" for record in records),
        "diverged_runs": sum(record.diverged_epoch is not None for record in whole),
        "failed_runs": len(records) - len(whole),
        "lowest_accuracy": min(best, default=None),
        "highest_accuracy": max(best, default=None),
        "departures": _departures(records),
        "hours": sum(record.seconds for record in records) / 3600,
    }


def _departures(records: list[RunRecord]) -> list[str]:
    """All departures from the paper's protocol, each once; of how many runs, where it is not all of them."""
    counts = Counter(told for record in records for told in record.departures)
    return [
        told if runs == len(records) else f"{told} ({runs} of {len(records)} runs)"
        for told, runs in counts.items()
    ]


def is_trainable(record: RunRecord, manifest: Mapping[str, Any]) -> bool:
    """Whether a run did not diverge and is at least twice as good as guessing."""
    guess = 1 / manifest["data"][record.config["dataset"]]["classes"]
    if record.config.get("sweep") is not None:  # of some of the classes; of two, nothing is twice as good
        guess = min(record.config["guess"], (1 + record.config["guess"]) / 4)
    return record.diverged_epoch is None and record.best_accuracy >= 2 * guess
