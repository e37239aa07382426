"""Trains a corpus: all cores, progress with remaining time, and on from where it was stopped or killed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib

from lightning_nndyn.corpus.data import ImageData, load_data
from lightning_nndyn.corpus.parquet import read_manifest, read_parquet, write_parquet
from lightning_nndyn.corpus.presets import Preset, get_preset
from lightning_nndyn.corpus.progress import Progress
from lightning_nndyn.corpus.record import RunRecord
from lightning_nndyn.corpus.store import CorpusFolder
from lightning_nndyn.corpus.training import train_run

TRAINED, DONE_ALREADY, ELSEWHERE, OUT_OF_TIME = "trained", "done already", "elsewhere", "out of time"


@dataclass(frozen=True)
class _Task:
    """One run for a worker: small to send, the worker loads the images itself, once."""

    folder: str
    preset: Preset
    index: int
    sampling: str
    redo: bool
    deadline: float | None


def run_corpus(
    preset: Preset | str,
    folder: Path | str,
    *,
    jobs: int | None = None,
    runs: int | None = None,
    images: int | None = None,
    test_images: int | None = None,
    epochs: int | None = None,
    size: int | None = None,
    precision: str | None = None,
    seed: int | None = None,
    data: Path | str | None = None,
    download: bool = False,
    backend: str = "loky",
    progress: bool = True,
    minutes: float | None = None,
    band_share: float = 0.0,
) -> None:
    """Train the runs of a preset that a folder does not hold yet, one thread each, and record them there.

    Runs come in a fixed random order, so that a corpus stopped half-way stands for the whole grid. Stopping
    at any moment, by Ctrl-C or kill, loses only the runs in training; the same call goes on.

    Args:
        preset: A preset or its name.
        folder: Where the corpus lies, or will lie.
        jobs: Processes; None for one a core.
        runs: Have the first `runs` of the order (a later call may ask for more); None for the whole grid.
        images: Train on at most that many images.
        test_images: Test on at most that many; None for a quarter of `images`, at least 2,000.
        epochs: Train that many epochs.
        size: Resize the images to size x size.
        precision: "float32" or "bf16".
        seed: The corpus's seed; another one gives other runs.
        data: Folder of the images, see `load_data`; not needed once they are in the folder's cache.
        download: Let torchvision download CIFAR-10 into `data`.
        backend: A joblib backend.
        progress: Show progress.
        minutes: Start no run after that time.
        band_share: Draw that share of the runs from the learning rates at which training moves.

    Raises:
        CorpusError: The folder has other settings or data, the images cannot be read, the disk is full.
        MissingExtraError: torchvision is needed and not installed.
        KeyboardInterrupt: Stopped by the user, after saying how to go on.
    """
    preset = get_preset(preset) if isinstance(preset, str) else preset
    preset = preset.scaled(
        images=images, test_images=test_images, epochs=epochs, size=size, precision=precision, seed=seed
    )
    corpus = CorpusFolder(folder)
    deadline = None if minutes is None else time.time() + 60 * minutes
    root = None if data is None else Path(data)
    images_at_hand = load_data(preset.dataset, root, corpus.cache, size=preset.size, download=download)
    corpus.open(preset.settings(), _about(images_at_hand))
    whole, damaged = corpus.complete()
    order = preset.order(band_share)[:runs]
    tasks = [
        _Task(str(corpus.folder), preset, index, sampling, corpus.record_file(index).exists(), deadline)
        for index, sampling in order
        if index not in whole
    ]
    with Progress(preset.name, len(order), len(order) - len(tasks), show=progress) as shown:
        for message in damaged:
            shown.say(f"{message}: trained once more")
        _work_through(tasks, jobs, backend, shown)


def corpus_status(folder: Path | str) -> dict[str, Any]:
    """What a corpus folder or parquet file holds, as JSON-able values.

    `low_share` is the share of runs whose best accuracy is below the preset's threshold; a run counts as
    trainable when it did not diverge and its best accuracy is at least twice that of guessing.

    Raises:
        CorpusError: There is no corpus, or it cannot be read.
    """
    path = Path(folder)
    damaged = 0 if path.is_file() else len(CorpusFolder(path).complete()[1])
    return _status(corpus_manifest(path), load_corpus(path, raw=False)) | {"damaged": damaged}


def corpus_manifest(path: Path | str) -> dict[str, Any]:
    """The settings and the data of a corpus, from its folder or from an exported parquet file.

    Raises:
        CorpusError: There is no corpus, or it cannot be read.
        MissingExtraError: The path is a parquet file and pyarrow is not installed.
    """
    path = Path(path)
    return read_manifest(path) if path.is_file() else CorpusFolder(path).manifest()


def training_images(manifest: dict[str, Any]) -> int:
    """How many images each run of a corpus was trained on."""
    available: int = manifest["data"]["train_images"]
    return min(manifest["settings"]["images"] or available, available)


def load_corpus(path: Path | str, *, raw: bool = True) -> list[RunRecord]:
    """The records of a corpus, from its folder or from an exported parquet file, in the order of the grid.

    Without `raw`, the material per layer (`Snapshot.layers`, `RunRecord.weights`) of a parquet file is left
    empty, which saves most of the time and memory.

    Raises:
        CorpusError: There is no corpus, or it cannot be read.
        MissingExtraError: The path is a parquet file and pyarrow is not installed.
    """
    path = Path(path)
    if path.is_file():
        return read_parquet(path, raw=raw)
    corpus = CorpusFolder(path)
    corpus.manifest()
    return corpus.records()


def export_parquet(folder: Path | str, file: Path | str) -> None:
    """Write all whole records of a corpus folder into one parquet file.

    Raises:
        CorpusError: There is no corpus or no record, or the file cannot be written.
        MissingExtraError: pyarrow is not installed.
    """
    corpus = CorpusFolder(folder)
    write_parquet(corpus.records(), corpus.manifest(), Path(file))


def _work_through(tasks: list[_Task], jobs: int | None, backend: str, shown: Progress) -> None:
    workers = min(jobs or joblib.cpu_count(), max(len(tasks), 1))
    parallel = joblib.Parallel(n_jobs=workers, backend=backend, return_as="generator_unordered")
    outcomes: Iterator[str] = parallel(joblib.delayed(_train_one)(task) for task in tasks)
    try:
        for outcome in outcomes:
            shown.advance(outcome in (TRAINED, DONE_ALREADY), outcome)
    except KeyboardInterrupt:
        shown.say("stopped; the runs recorded so far are complete: give the same command again to go on")
        raise
    except BaseException:
        shown.say("stopped by an error; the runs recorded so far are complete")
        raise


def _train_one(task: _Task) -> str:
    """What a worker does with a task; returns what became of it."""
    if task.deadline is not None and time.time() > task.deadline:
        return OUT_OF_TIME
    corpus, preset = CorpusFolder(task.folder), task.preset
    with corpus.claim(task.index) as mine:
        if not mine:
            return ELSEWHERE
        if corpus.record_file(task.index).exists() and not task.redo:
            return DONE_ALREADY
        data = _loaded(task.folder, preset.dataset, preset.size)
        corpus.write(train_run(preset.config(task.index, task.sampling), data, preset.departures()))
    return TRAINED


@lru_cache(maxsize=1)
def _loaded(folder: str, dataset: str, size: int | None) -> ImageData:
    return load_data(dataset, None, CorpusFolder(folder).cache, size=size)


def _about(data: ImageData) -> dict[str, Any]:
    return {
        "fingerprint": data.fingerprint(),
        "train_images": len(data.train_labels),
        "test_images": len(data.test_labels),
        "classes": len(data.classes),
        "shape": list(data.shape),
    }


def _status(manifest: dict[str, Any], records: list[RunRecord]) -> dict[str, Any]:
    settings, data = manifest["settings"], manifest["data"]
    best = [record.best_accuracy for record in records]
    low = sum(accuracy < settings["low_threshold"] for accuracy in best)
    guess = 1 / data["classes"]
    return {
        "corpus": settings["name"],
        "network": settings["network"],
        "dataset": settings["dataset"],
        "runs": len(records),
        "planned_runs": len(settings["learning_rates"]) * len(settings["dropouts"]),
        "epochs": settings["epochs"],
        "images": training_images(manifest),
        "low_share": low / len(records) if records else None,
        "trainable_runs": sum(
            record.diverged_epoch is None and record.best_accuracy >= 2 * guess for record in records
        ),
        "diverged_runs": sum(record.diverged_epoch is not None for record in records),
        "lowest_accuracy": min(best, default=None),
        "highest_accuracy": max(best, default=None),
        "hours": sum(record.seconds for record in records) / 3600,
    }
