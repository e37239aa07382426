"""Counts, accuracies and hours of a corpus."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_nndyn.corpus.storage import corpus_manifest, load_corpus, parquet_files
from lightning_nndyn.corpus.storage.folder import CorpusFolder
from lightning_nndyn.corpus.storage.record import RunRecord
from lightning_nndyn.errors import CorpusError


def corpus_status(path: Path | str) -> dict[str, Any]:
    """What a corpus folder or parquet file holds, as JSON-able values.

    `low_share` is the share of runs whose best accuracy is below the threshold of their data set or of their
    sweep. A run counts as trainable if it did not diverge and its best accuracy is at least twice that of
    guessing. Failed runs count in `runs` and `failed_runs` only.

    Raises:
        CorpusError: There is no corpus, or it cannot be read.
        MissingExtraError: The path is a parquet file and pyarrow is not installed.
    """
    path = Path(path)
    manifest, records = corpus_manifest(path), load_corpus(path, raw=False)
    damaged = 0 if parquet_files(path) else len(CorpusFolder(path).complete()[1])
    try:
        return _status(manifest, records) | {"damaged": damaged}
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise CorpusError(f"{str(path)!r}: its runs do not fit its settings ({error!r})") from error


def training_images(manifest: Mapping[str, Any]) -> int:
    """The largest number of images that a run of the corpus is trained on."""
    available = max(data["train_images"] for data in manifest["data"].values())
    return min(manifest["settings"]["images"] or available, available)


def low_threshold(settings: Mapping[str, Any], dataset: str) -> float:
    """The accuracy below which a run on that data set is low."""
    threshold: float | Mapping[str, float] = settings["low_threshold"]
    return threshold[dataset] if isinstance(threshold, Mapping) else threshold


def low_thresholds(settings: Mapping[str, Any], records: Sequence[RunRecord]) -> list[float]:
    """The accuracy below which each run is low, for its data set or for its sweep.

    In a sweep it is `low_share` of the way from guessing to the best of the sweep's runs in the records.
    """
    best: dict[int, float] = {}
    for record in records:
        sweep, accuracy = record.config.get("sweep"), record.best_accuracy
        if sweep is not None and not math.isnan(accuracy):
            best[sweep] = max(best.get(sweep, 0.0), accuracy)
    return [_low_threshold(settings, record.config, best) for record in records]


def _low_threshold(
    settings: Mapping[str, Any], config: Mapping[str, Any], best: Mapping[int, float]
) -> float:
    if config.get("sweep") is None:
        return low_threshold(settings, config["dataset"])
    guess: float = config["guess"]
    share: float = settings["low_share"]
    return guess + share * max(0.0, best.get(config["sweep"], guess) - guess)


def _status(manifest: dict[str, Any], records: list[RunRecord]) -> dict[str, Any]:
    settings = manifest["settings"]
    whole = [record for record in records if not record.failed]
    best = [record.best_accuracy for record in whole]
    low = sum(
        accuracy < threshold
        for accuracy, threshold in zip(best, low_thresholds(settings, whole), strict=True)
    )
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
    """Each departure from the paper's protocol once, with the number of runs unless it is all of them."""
    counts = Counter(departure for record in records for departure in record.departures)
    return [
        departure if runs == len(records) else f"{departure} ({runs} of {len(records)} runs)"
        for departure, runs in counts.items()
    ]


def is_trainable(record: RunRecord, manifest: Mapping[str, Any]) -> bool:
    """Whether a run did not diverge and is at least twice as good as guessing."""
    guess = 1 / manifest["data"][record.config["dataset"]]["classes"]
    if record.config.get("sweep") is not None:  # of two classes, no accuracy is twice that of guessing
        guess = min(record.config["guess"], (1 + record.config["guess"]) / 4)
    return record.diverged_epoch is None and record.best_accuracy >= 2 * guess
