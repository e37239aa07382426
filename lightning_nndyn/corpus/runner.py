"""Trains a corpus: in parallel, with the remaining time shown, and on from where it was stopped or killed."""

import math
import time
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from lightning_nndyn.corpus.backends import check_backend, outcomes
from lightning_nndyn.corpus.presets import get_preset
from lightning_nndyn.corpus.presets.base import Preset
from lightning_nndyn.corpus.progress import Progress
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.storage.folder import CorpusFolder
from lightning_nndyn.corpus.training.arrays import RunData
from lightning_nndyn.corpus.training.environment import SLOW_BF16, checked_device, slow_bf16
from lightning_nndyn.corpus.training.run_data import DataFolders, load_all, load_source
from lightning_nndyn.corpus.training.train import train_run
from lightning_nndyn.errors import CorpusError

TRAINED, FAILED, DONE_ALREADY = "trained", "failed", "done already"
ELSEWHERE, OUT_OF_TIME = "elsewhere", "out of time"
_RECORDED = (TRAINED, FAILED, DONE_ALREADY)
_TOO_MANY_FAILURES = 5  # from the start, without a success: then the runs are not the cause


@dataclass(frozen=True)
class RunOptions:
    """How a corpus is trained. Settings of the runs themselves belong to the preset.

    Attributes:
        jobs: Processes; None for one a core, of the cluster's where there is one, and for a single one on a
            CUDA device, which several processes can share.
        runs: Have the first `runs` of the order (a later call may ask for more); None for all.
        data: Folder of the images, see `load_data`; for a preset with several data sets a mapping from their
            names. Not needed once they are in the corpus folder's cache.
        download: Let torchvision download CIFAR-10 into its folder.
        backend: "loky" for this machine's cores, "ray" or "dask" for a cluster, see `corpus.backends`.
        progress: Show progress.
        minutes: Start no run that, at the pace of the longest so far, would not have ended by then.
        band_share: Draw that share of the runs from the learning rates at which training moves.
        redo_failed: Train runs once more that are recorded as failed.
        device: "cpu", or "cuda" for a GPU, on which `jobs` runs are trained side by side.
    """

    jobs: int | None = None
    runs: int | None = None
    data: DataFolders = None
    download: bool = False
    backend: str = "loky"
    progress: bool = True
    minutes: float | None = None
    band_share: float = 0.7
    redo_failed: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class _Task:
    """A run for a worker: small to send, as the worker loads the images itself, once."""

    folder: str
    config: RunConfig
    departures: tuple[str, ...]
    redo: bool
    deadline: float
    device: str


class _Outcome(NamedTuple):
    kind: str
    run: int
    reason: str = ""


def run_corpus(
    preset: Preset | str, folder: Path | str, options: RunOptions | None = None, **changes: Any
) -> None:
    """Train the runs of a preset that a folder does not hold yet, one thread each, and record them there.

    Runs come in a fixed random order, so that the first part of a corpus represents the whole one. Stopping
    at any moment, by Ctrl-C or kill, loses only the runs in training; the same call continues. A run that
    diverges or raises is recorded with its reason.

    Args:
        preset: A preset or its name.
        folder: Where the corpus lies, or will lie; on a cluster, a place that all its machines see.
        options: How to train it.
        changes: To the options, by the names of `RunOptions`; and to the preset, see `Preset.scaled`:
            `images`, `test_images`, `epochs`, `size`, `precision` ("float32" or "bf16", which may differ from
            that of the runs there are), `low_threshold` (which holds for the runs there are as well), `seed`,
            ...

    Raises:
        CorpusError: The folder has other settings or data, the images cannot be read, the disk is full, no
            run can be trained, the backend is unknown or its cluster out of reach.
        MissingExtraError: torchvision or the backend's package is needed and not installed.
        KeyboardInterrupt: Stopped by the user, after saying how to go on.
    """
    options, settings = _separated(options or RunOptions(), changes)
    preset = (get_preset(preset) if isinstance(preset, str) else preset).scaled(**settings)
    check_backend(options.backend)
    if options.backend == "loky":  # a cluster's workers may have what this machine lacks
        checked_device(options.device)
    deadline = math.inf if options.minutes is None else time.time() + 60 * options.minutes
    order = preset.order(options.band_share)[: options.runs]
    corpus = CorpusFolder(folder)
    corpus.open(preset.settings(), load_all(preset, options.data, corpus.cache, options.download))
    if settings.get("low_threshold") is not None:
        corpus.set_low_threshold(preset.low_threshold)
    whole, damaged = corpus.complete()
    if options.redo_failed:
        whole -= corpus.failed(whole)
    missing = [preset.config(index, sampling) for index, sampling in order if index not in whole]
    redo = {config.index for config in missing if corpus.record_file(config.index).exists()}
    departures, path = tuple(preset.departures()), str(corpus.folder.absolute())
    tasks = [
        _Task(path, config, departures, config.index in redo, deadline, options.device) for config in missing
    ]
    indices = [index for index, _ in order]
    with Progress(preset.name, indices, corpus.indices, redo, show=options.progress) as progress:
        for message in damaged:
            progress.log(f"{message}: trained once more")
        if tasks and options.device == "cpu" and preset.precision == "bf16" and slow_bf16():
            progress.log(SLOW_BF16)
        _work_through(tasks, options, progress)
        # What another process had in training when it was its turn here is recorded by now, or soon.
        progress.redo.clear()


def _separated(options: RunOptions, changes: dict[str, Any]) -> tuple[RunOptions, dict[str, Any]]:
    """The options with the changes that are theirs, and the other changes, which are the preset's."""
    names = {field.name for field in fields(RunOptions)}
    own = {name: value for name, value in changes.items() if name in names}
    return replace(options, **own), {name: value for name, value in changes.items() if name not in names}


def _work_through(tasks: list[_Task], options: RunOptions, progress: Progress) -> None:
    jobs = options.jobs if options.device == "cpu" else options.jobs or 1
    trained = failures = 0
    try:
        # Closed at once when interrupted here: later, at exit, Ray's head is gone and its agents are orphans.
        with closing(outcomes(_train, tasks, jobs, options.backend)) as ended:
            for outcome in ended:
                progress.advance(outcome.run, outcome.kind, outcome.kind in _RECORDED)
                trained += outcome.kind == TRAINED
                if outcome.kind == FAILED:
                    failures += 1
                    progress.log(f"run {outcome.run} {outcome.reason}")
                if failures >= _TOO_MANY_FAILURES and not trained:
                    raise CorpusError(
                        f"all of the first {failures} runs failed; run {outcome.run} {outcome.reason}. "
                        "Once that is fixed, train them again with redo_failed"
                    )
    except KeyboardInterrupt:
        progress.log("stopped; the runs recorded so far are complete: give the same command again to go on")
        raise
    except BaseException:
        progress.log("stopped by an error; the runs recorded so far are complete")
        raise


_longest: dict[tuple[str, float], float] = {}
"""Seconds of this worker's longest run in a call of `run_corpus`, by its folder and deadline."""


def _train(task: _Task) -> _Outcome:
    """What a worker does with a task; returns what became of its run."""
    started, call, index = time.time(), (task.folder, task.deadline), task.config.index
    if started + _longest.get(call, 0.0) > task.deadline:
        return _Outcome(OUT_OF_TIME, index)
    corpus = CorpusFolder(task.folder)
    with corpus.claim(index) as mine:
        if not mine:
            return _Outcome(ELSEWHERE, index)
        if corpus.record_file(index).exists() and not task.redo:
            return _Outcome(DONE_ALREADY, index)
        data = _loaded(task.folder, task.config.dataset, task.config.size)
        record = train_run(task.config, data, task.departures, device=task.device)
        corpus.write(record)
    _longest[call] = max(_longest.get(call, 0.0), time.time() - started)
    return _Outcome(FAILED if record.failed else TRAINED, index, record.reason)


@lru_cache(maxsize=3)
def _loaded(folder: str, dataset: str, size: int | None) -> RunData:
    return load_source(dataset, None, CorpusFolder(folder).cache, size)
