"""Trains a corpus: all cores, progress with remaining time, and on from where it was stopped or killed."""

import math
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from lightning_nndyn.corpus.backends import check_backend, outcomes
from lightning_nndyn.corpus.packing import check_size, checked_device, packs, train_pack
from lightning_nndyn.corpus.presets.base import Preset
from lightning_nndyn.corpus.presets.registry import get_preset
from lightning_nndyn.corpus.progress import Progress
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.storage.folder import CorpusFolder
from lightning_nndyn.corpus.storage.record import RunRecord
from lightning_nndyn.corpus.training.data import ImageData, load_data
from lightning_nndyn.corpus.training.precision import SLOW_BF16, slow_bf16
from lightning_nndyn.corpus.training.sources import DataFolders, load_all
from lightning_nndyn.corpus.training.train import train_run
from lightning_nndyn.errors import CorpusError

TRAINED, FAILED, DONE_ALREADY = "trained", "failed", "done already"
ELSEWHERE, OUT_OF_TIME = "elsewhere", "out of time"
_RECORDED = (TRAINED, FAILED, DONE_ALREADY)
_HOPELESS = 5  # failures in a row, from the start, after which it is not the runs that are at fault


@dataclass(frozen=True)
class _Task:
    """Runs that a worker trains at a time: small to send, the worker loads the images itself, once."""

    folder: str
    configs: tuple[RunConfig, ...]
    departures: tuple[str, ...]
    redo: frozenset[int]
    deadline: float | None
    device: str
    mode: str | None


class _Outcome(NamedTuple):
    kind: str
    run: int
    reason: str = ""


def run_corpus(
    preset: Preset | str,
    folder: Path | str,
    *,
    jobs: int | None = None,
    runs: int | None = None,
    data: DataFolders = None,
    download: bool = False,
    backend: str = "loky",
    progress: bool = True,
    minutes: float | None = None,
    band_share: float = 0.7,
    redo_failed: bool = False,
    device: str = "cpu",
    pack: int | None = None,
    pack_mode: str | None = None,
    **settings: Any,
) -> None:
    """Train the runs of a preset that a folder does not hold yet, one thread each, and record them there.

    Runs come in a fixed random order, so that a corpus stopped half-way stands for the whole one. Stopping at
    any moment, by Ctrl-C or kill, loses only the runs in training; the same call goes on. A run that diverges
    or raises is recorded with its reason.

    Args:
        preset: A preset or its name.
        folder: Where the corpus lies, or will lie; on a cluster, a place that all its machines see.
        jobs: Processes; None for one a core, of the cluster's where there is one, and for a single one on a
            CUDA device.
        runs: Have the first `runs` of the order (a later call may ask for more); None for all.
        data: Folder of the images, see `load_data`; for a preset with several data sets a mapping from their
            names. Not needed once they are in the corpus folder's cache.
        download: Let torchvision download CIFAR-10 into its folder.
        backend: "loky" for this machine's cores, "ray" or "dask" for a cluster, see `corpus.backends`.
        progress: Show progress.
        minutes: Start no run that, at the pace of the longest so far, would not have ended by then. A pack
            that turns out to be slower is given up.
        band_share: Draw that share of the runs from the learning rates at which training moves.
        redo_failed: Train runs once more that are recorded as failed.
        device: "cpu", or "cuda" to train packs of runs on a card.
        pack: Runs trained at a time by one process; None for one on the CPU, and on a card for as many as
            should fill it. Runs of the zoo rarely have the same network: train them by several `jobs`.
        pack_mode: How, see `train_pack`.
        settings: Changes to the preset, see `Preset.scaled`: `images`, `test_images`, `epochs`, `size`,
            `precision` ("float32" or "bf16", which may differ from that of the runs there are),
            `low_threshold` (which holds for the runs there are as well), `seed`, ...

    Raises:
        CorpusError: The folder has other settings or data, the images cannot be read, the disk is full, no
            run can be trained, the backend is unknown or its cluster out of reach.
        MissingExtraError: torchvision or the backend's package is needed and not installed.
        KeyboardInterrupt: Stopped by the user, after saying how to go on.
    """
    preset = (get_preset(preset) if isinstance(preset, str) else preset).scaled(**settings)
    check_backend(backend)
    check_size(pack)
    if backend == "loky":  # a cluster's workers may have what this machine lacks
        checked_device(device)
    order = preset.order(band_share)[:runs]
    deadline = None if minutes is None else time.time() + 60 * minutes
    corpus = CorpusFolder(folder)
    corpus.open(preset.settings(), load_all(preset, data, corpus.cache, download))
    if settings.get("low_threshold") is not None:
        corpus.set_low_threshold(preset.low_threshold)
    whole, damaged = corpus.complete()
    if redo_failed:
        whole -= corpus.failed(whole)
    configs = [preset.config(index, sampling) for index, sampling in order if index not in whole]
    common = _Task(
        folder=str(corpus.folder.absolute()),
        configs=(),
        departures=tuple(preset.departures()),
        redo=frozenset(config.index for config in configs if corpus.record_file(config.index).exists()),
        deadline=deadline,
        device=device,
        mode=pack_mode,
    )
    tasks = [replace(common, configs=tuple(group)) for group in packs(configs, device, pack)]
    if device != "cpu":
        jobs = jobs or 1
    wanted = [index for index, _ in order]
    with Progress(preset.name, wanted, corpus.indices, common.redo, show=progress) as shown:
        for message in damaged:
            shown.say(f"{message}: trained once more")
        if configs and device == "cpu" and preset.precision == "bf16" and slow_bf16():
            shown.say(SLOW_BF16)
        _work_through(tasks, jobs, backend, shown)
        # What another process had in training when it was its turn here is recorded by now, or soon.
        shown.redo.clear()


def _work_through(tasks: list[_Task], jobs: int | None, backend: str, shown: Progress) -> None:
    hopeful = False
    failures = 0
    try:
        # Closed at once when interrupted here: later, at exit, Ray's head is gone and its agents are orphans.
        with closing(outcomes(_train, tasks, jobs, backend)) as ended:
            for outcome in chain.from_iterable(ended):
                shown.advance(outcome.run, outcome.kind, outcome.kind in _RECORDED)
                hopeful = hopeful or outcome.kind == TRAINED
                if outcome.kind == OUT_OF_TIME and outcome.reason:
                    shown.say(outcome.reason)
                if outcome.kind == FAILED:
                    failures += 1
                    shown.say(f"run {outcome.run} {outcome.reason}")
                if failures >= _HOPELESS and not hopeful:
                    raise CorpusError(
                        f"all of the first {failures} runs failed; run {outcome.run} {outcome.reason}. "
                        "Once that is mended, train them again with redo_failed"
                    )
    except KeyboardInterrupt:
        shown.say("stopped; the runs recorded so far are complete: give the same command again to go on")
        raise
    except BaseException:
        shown.say("stopped by an error; the runs recorded so far are complete")
        raise


_longest: dict[tuple[str, float], float] = {}
"""Seconds of this worker's longest run in a call of `run_corpus`, by its folder and deadline."""


def _train(task: _Task) -> list[_Outcome]:
    """What a worker does with a task; returns what became of its runs."""
    started, deadline = time.time(), math.inf if task.deadline is None else task.deadline
    longest = _longest.get((task.folder, deadline), 0.0)
    if started + longest > deadline:
        return [_Outcome(OUT_OF_TIME, config.index) for config in task.configs]
    corpus = CorpusFolder(task.folder)
    done: list[_Outcome] = []
    mine: list[RunConfig] = []
    with ExitStack() as claims:
        for config in task.configs:
            if not claims.enter_context(corpus.claim(config.index)):
                done.append(_Outcome(ELSEWHERE, config.index))
            elif corpus.record_file(config.index).exists() and config.index not in task.redo:
                done.append(_Outcome(DONE_ALREADY, config.index))
            else:
                mine.append(config)
        for record in _records(task, mine):
            corpus.write(record)
            done.append(_Outcome(FAILED if record.failed else TRAINED, record.index, record.reason))
    told = {outcome.run for outcome in done}
    given_up = [config.index for config in mine if config.index not in told]
    spent = time.time() - started
    # What was given up would have taken longer than there was time for: so would the next.
    _longest[task.folder, deadline] = max(longest, deadline - started if given_up else spent)
    return done + _given_up(given_up, spent)


def _given_up(runs: list[int], seconds: float) -> list[_Outcome]:
    """The outcomes of a pack that was given up; the first tells of it."""
    reason = (
        f"{len(runs)} runs were given up after {seconds:.0f} s, as they would not have ended in time: give "
        "more minutes, fewer epochs or a smaller pack"
    )
    return [_Outcome(OUT_OF_TIME, run, reason if run == runs[0] else "") for run in runs]


def _records(task: _Task, configs: list[RunConfig]) -> list[RunRecord]:
    if not configs:
        return []
    data = _loaded(task.folder, configs[0].dataset, configs[0].size)
    if task.device == "cpu" and len(task.configs) == 1:
        return [train_run(configs[0], data, task.departures)]
    return train_pack(
        configs, data, task.departures, device=task.device, mode=task.mode, deadline=task.deadline
    )


@lru_cache(maxsize=3)
def _loaded(folder: str, dataset: str, size: int | None) -> ImageData:
    return load_data(dataset, None, CorpusFolder(folder).cache, size=size)
