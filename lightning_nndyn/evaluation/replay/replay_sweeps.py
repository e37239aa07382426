"""The command ``nndyn evaluate sweep``: replay all corpora under all stopping rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from lightning_nndyn import __version__
from lightning_nndyn.errors import renamed_arguments
from lightning_nndyn.evaluation.benchmark.compare import NUM_FOLDS
from lightning_nndyn.evaluation.benchmark.scores import BANDS
from lightning_nndyn.evaluation.cache import Part, PartCache, Source, Task, run_tasks
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
from lightning_nndyn.evaluation.replay.rows import ReplayRow, part_of, published_parts, write
from lightning_nndyn.evaluation.replay.sampled_sweeps import corpus_runs, sampled_sweeps

Progress = Callable[[str], None]


@dataclass(frozen=True)
class _Band:
    """The sweeps of one band of a corpus, the same for all stopping rules."""

    source: Source
    corpus: str
    band: str
    count: int
    size: int
    seed: int

    def task(self, policy: SweepPolicy) -> Task:
        """One stopping rule on these sweeps."""
        settings = [__version__, self.source.fingerprint, self.band, policy, self.count, self.size, self.seed]
        name = f"{self.corpus} {self.band} {name_of(policy)}"
        return Task(name, repr(settings), partial(_replay_part, self, policy))


def _replay_part(band: _Band, policy: SweepPolicy) -> Part:
    runs = corpus_runs(band.source)[1]
    return part_of(replay(policy, sampled_sweeps(runs, band.band, band.count, band.size, band.seed)))


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

    Writes `replay.parquet` (the rows), and a summary: `replay.md` with a figure. The same arguments give the
    same files. Finished parts are kept in `cache`, with which an interrupted replay continues. Rows of
    `replay.parquet` in `output` are taken into it: with another corpus only what is new is replayed. After a
    change of the code delete both.

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
        MissingExtraError: optuna, pyarrow or matplotlib is not installed.
    """
    parts = PartCache.within(cache, minutes)
    parts.add(published_parts(Path(output)))
    bands = [band for corpus in corpora for band in _bands(Source.at(corpus), count, size, seed)]
    wanted = [(band, policy) for band in bands for policy in policies_to_compare()]
    rows = list(_rows(wanted, parts, jobs, on_progress))
    names = {band.source: band.corpus for band in bands}
    judged = _judged_parts(names, parts, seed, jobs, on_progress)
    held_out = [(band, policy) for band in bands for policy in judged.get(band.source, ())]
    rows += _rows(held_out, parts, jobs, on_progress)
    if len(judged) < len(names) or len(rows) < len(wanted) + len(held_out):
        on_progress(f"time is up, {len(rows)} parts are finished: run the same command again to go on")
        return None
    order = {(band.corpus, band.band): number for number, band in enumerate(bands)}
    rows.sort(key=lambda row: order[row.corpus, row.band])
    write(rows, count, size, Path(output))
    return rows


def _bands(source: Source, count: int, size: int, seed: int) -> Iterator[_Band]:
    """The bands of a corpus that have enough runs for a sweep."""
    dataset, runs = corpus_runs(source)
    for band in BANDS:
        if sampled_sweeps(runs, band, count, size, seed):
            yield _Band(source, dataset.name, band, count, size, seed)


def _rows(
    wanted: Sequence[tuple[_Band, SweepPolicy]], cache: PartCache, jobs: int, on_progress: Progress
) -> Iterator[ReplayRow]:
    """The rows of stopping rules, in order; those that are too late are left out."""
    tasks = [band.task(policy) for band, policy in wanted]
    for (band, policy), task, part in zip(wanted, tasks, run_tasks(tasks, cache, jobs), strict=True):
        if part is not None:
            row = ReplayRow.from_part(band.corpus, band.band, policy, task.key, part)
            on_progress(
                f"{row.corpus}, {row.band}: {row.policy}: {row.epochs_share:.1%} of the epochs, "
                f"regret {100 * row.regret:.2f} points ({row.seconds:.1f} s)"
            )
            yield row


def _judged_parts(
    names: dict[Source, str], cache: PartCache, seed: int, jobs: int, on_progress: Progress
) -> dict[Source, list[SweepPolicy]]:
    """The stopping rules of held-out predictors by corpus, without corpora that are not finished in time."""
    sources, tasks = [*names], []
    together = [source.fingerprint for source in sources]
    for source, name in names.items():
        for number in range(NUM_FOLDS):
            settings = [__version__, source.fingerprint, number, seed, RATES, TIMES]
            tasks.append(Task(f"{name} fold {number}", repr(settings), partial(_fold, source, number, seed)))
    if len(sources) > 1:
        for number, name in enumerate(names.values()):
            settings = [__version__, together, number, seed, TIMES]
            compute = partial(_unknown, sources, number, seed)
            tasks.append(Task(f"{name} by all others", repr(settings), compute))
    found = []
    for task, part in zip(tasks, run_tasks(tasks, cache, jobs), strict=True):
        found.append(part)
        if part is not None:
            on_progress(f"{task.name} judged ({part['seconds']:.1f} s)")
    policies = {}
    for index, source in enumerate(sources):
        own = found[index * NUM_FOLDS : (index + 1) * NUM_FOLDS]
        own += found[len(sources) * NUM_FOLDS :][index : index + 1]
        parts = [part for part in own if part is not None]
        if len(parts) == len(own):
            unknown = map(unknown_policies, parts[NUM_FOLDS:])
            policies[source] = [*held_out_policies(parts[:NUM_FOLDS]), *chain.from_iterable(unknown)]
    return policies


def _fold(source: Source, number: int, seed: int) -> Part:
    return judge_fold(corpus_runs(source)[0], number, seed)


def _unknown(sources: Sequence[Source], number: int, seed: int) -> Part:
    return judge_unknown([RunDataset.load(source.path) for source in sources], number, seed)
