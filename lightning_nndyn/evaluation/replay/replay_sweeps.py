"""The command ``nndyn evaluate sweep``: replay all corpora under all stopping rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib

from lightning_nndyn import __version__
from lightning_nndyn.errors import renamed_arguments
from lightning_nndyn.evaluation.benchmark.compare import NUM_FOLDS
from lightning_nndyn.evaluation.benchmark.rows import BANDS
from lightning_nndyn.evaluation.cache import Part, PartCache, fingerprint, part_key
from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.evaluation.replay.held_out_predictors import (
    RATES,
    TIMES,
    held_out_policies,
    judge_fold,
    judge_unknown,
    unknown_policies,
)
from lightning_nndyn.evaluation.replay.policies import SweepPolicy, name_of, policies_to_compare
from lightning_nndyn.evaluation.replay.result import replay
from lightning_nndyn.evaluation.replay.sampled_sweeps import ReplayRun, corpus_runs, sampled_sweeps
from lightning_nndyn.evaluation.replay.tables import BandSummary, ReplayRow, published_parts, write

Progress = Callable[[str], None]


@dataclass(frozen=True)
class _Band:
    """The sweeps of one band of a corpus, the same for all stopping rules."""

    path: str
    fingerprint: str
    summary: BandSummary
    count: int
    size: int
    seed: int

    def sweeps(self) -> list[list[ReplayRun]]:
        runs = corpus_runs(self.path, self.fingerprint).runs
        return sampled_sweeps(runs, self.summary.band, self.count, self.size, self.seed)


@dataclass(frozen=True)
class _ReplayTask:
    """One stopping rule on the sweeps of one band. Name and settings make the key of its published row."""

    band: _Band
    policy: SweepPolicy

    @property
    def name(self) -> str:
        return f"{self.band.summary.corpus} {self.band.summary.band} {name_of(self.policy)}"

    @property
    def settings(self) -> str:
        band = self.band
        return repr(
            [__version__, band.fingerprint, band.summary.band, self.policy, band.count, band.size, band.seed]
        )

    def row(self, cache: PartCache) -> ReplayRow | None:
        """Its result; None where time was up."""
        part = cache.get(self.name, self.settings, self._part)
        if part is None:
            return None
        key = part_key(self.name, self.settings)
        return ReplayRow.from_part(self.band.summary, self.policy, key, part)

    def _part(self) -> Part:
        return ReplayRow.part_of(replay(self.policy, self.band.sweeps()))


@renamed_arguments(said="on_progress")
def replay_sweeps(
    corpora: Sequence[Path | str],
    output: Path | str,
    *,
    count: int = 200,
    size: int = 50,
    seed: int = 0,
    jobs: int = 1,
    cache: Path | str = "nndyn-replay-cache",
    minutes: float | None = None,
    on_progress: Progress = lambda message: None,
) -> list[ReplayRow] | None:
    """Replay corpora as sweeps in random order under every stopping rule, and write the results.

    Writes `replay.json` (the rows), `replay.md` (their tables; text around the two marks in an existing file
    stays) and `figures/replay.png`. The same arguments give the same files. Finished parts are kept in
    `cache`, with which an interrupted replay continues. Rows of `replay.json` in `output` are taken into it:
    with another corpus only what is new is replayed. After a change of the code delete both.

    Args:
        corpora: corpus folders or parquet files.
        output: folder to write to.
        count: number of sweeps of each corpus and band, in the same orders for all stopping rules.
        size: runs in a sweep.
        seed: of orders, folds and forests.
        jobs: number of processes.
        cache: folder for finished parts.
        minutes: begin no part after so many; None for no limit.
        on_progress: called with a line about each finished part.

    Returns:
        Rows by corpus and band, the rules of this package last. None if time was up before all parts were
        finished: nothing is written then.

    Raises:
        CorpusError: a corpus cannot be read.
        PredictorError: a corpus has no runs, or too few to fit a predictor.
        MissingExtraError: optuna, pyarrow (for parquet) or matplotlib is not installed.
    """
    parts = PartCache.within(cache, minutes)
    parts.add(published_parts(Path(output) / "replay.json"))
    bands = [band for corpus in corpora for band in _bands(str(corpus), count, size, seed)]
    tasks = [_ReplayTask(band, policy) for band in bands for policy in policies_to_compare()]
    results = _run(tasks, parts, jobs, on_progress)
    sources = list({band.path: band for band in bands}.values())  # one band of each corpus
    folds = _judge_folds(sources, parts, seed, jobs, on_progress)
    unknown = _judge_unknown(sources, parts, seed, jobs, on_progress)
    tasks = [
        _ReplayTask(band, policy)
        for band in bands
        if band.path in folds and band.path in unknown
        for policy in (*held_out_policies(folds[band.path]), *unknown_policies(unknown[band.path]))
    ]
    results += _run(tasks, parts, jobs, on_progress)
    rows = [row for row in results if row is not None]
    if min(len(folds), len(unknown)) < len(sources) or len(rows) < len(results):
        on_progress(f"time is up, {len(rows)} parts are finished: run the same command again to go on")
        return None
    summaries = [band.summary for band in bands]
    order = {(summary.corpus, summary.band): number for number, summary in enumerate(summaries)}
    rows.sort(key=lambda row: order[row.corpus, row.band])
    write(rows, summaries, count, size, Path(output))
    return rows


def _bands(path: str, count: int, size: int, seed: int) -> Iterator[_Band]:
    """The bands of a corpus that have enough runs for a sweep."""
    digest = fingerprint(path)
    corpus = corpus_runs(path, digest)
    for band in BANDS:
        sweeps = sampled_sweeps(corpus.runs, band, count, size, seed)
        if sweeps:
            summary = BandSummary.from_sweeps(corpus.dataset.name, band, corpus.runs, sweeps)
            yield _Band(path, digest, summary, count, size, seed)


def _parallel(jobs: int, function: Callable[..., Any], work: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    yield from parallel(joblib.delayed(function)(*arguments) for arguments in work)


def _run(
    tasks: Sequence[_ReplayTask], cache: PartCache, jobs: int, on_progress: Progress
) -> list[ReplayRow | None]:
    """The rows of tasks, in order; None where time was up."""
    rows = []
    for row in _parallel(jobs, _ReplayTask.row, [(task, cache) for task in tasks]):
        if row is not None:
            on_progress(
                f"{row.corpus}, {row.band}: {row.policy}: {row.epochs_share:.1%} of the epochs, "
                f"regret {100 * row.regret:.2f} points ({row.seconds:.1f} s)"
            )
        rows.append(row)
    return rows


def _judge_folds(
    corpora: Sequence[_Band], cache: PartCache, seed: int, jobs: int, on_progress: Progress
) -> dict[str, list[Part]]:
    """The parts of `judge_fold`, by the corpus' path; corpora that are not finished in time are left out."""
    work = [(band, number, seed, cache) for band in corpora for number in range(NUM_FOLDS)]
    found: dict[str, list[Part]] = {}
    for part, (band, number, *_) in zip(_parallel(jobs, _fold_part, work), work, strict=True):
        if part is not None:
            on_progress(
                f"{band.summary.corpus}: fold {number + 1} of {NUM_FOLDS} judged ({part['seconds']:.1f} s)"
            )
            found.setdefault(band.path, []).append(part)
    return {path: parts for path, parts in found.items() if len(parts) == NUM_FOLDS}


def _fold_part(band: _Band, number: int, seed: int, cache: PartCache) -> Part | None:
    settings = [__version__, band.fingerprint, number, seed, RATES, TIMES]
    return cache.get(
        f"{band.summary.corpus} fold {number}",
        repr(settings),
        lambda: judge_fold(corpus_runs(band.path, band.fingerprint).dataset, number, seed),
    )


def _judge_unknown(
    corpora: Sequence[_Band], cache: PartCache, seed: int, jobs: int, on_progress: Progress
) -> dict[str, Part | None]:
    """The parts of `judge_unknown`, by the corpus' path, as in `_judge_folds`; None for a single corpus."""
    if len(corpora) == 1:
        return {corpora[0].path: None}
    work = [(corpora, number, seed, cache) for number in range(len(corpora))]
    found: dict[str, Part | None] = {}
    for part, band in zip(_parallel(jobs, _unknown_part, work), corpora, strict=True):
        if part is not None:
            on_progress(f"{band.summary.corpus}: judged by all others ({part['seconds']:.1f} s)")
            found[band.path] = part
    return found


def _unknown_part(corpora: Sequence[_Band], number: int, seed: int, cache: PartCache) -> Part | None:
    settings = [__version__, [band.fingerprint for band in corpora], number, seed, TIMES]
    return cache.get(
        f"{corpora[number].summary.corpus} by all others",
        repr(settings),
        lambda: judge_unknown([RunDataset.load(band.path) for band in corpora], number, seed),
    )
