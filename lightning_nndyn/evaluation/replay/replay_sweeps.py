"""The command ``nndyn evaluate sweep``: all corpora, all ways of stopping, all files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib

from lightning_nndyn import __version__
from lightning_nndyn.evaluation.benchmark.compare import BANDS, FOLDS
from lightning_nndyn.evaluation.benchmark.parts import Parts, fingerprint, part_key
from lightning_nndyn.evaluation.dataset import Collection
from lightning_nndyn.evaluation.replay.entrants import entrants
from lightning_nndyn.evaluation.replay.held_out_predictors import (
    RATES,
    TIMES,
    Fold,
    held_out_policies,
    judge_fold,
    judge_unknown,
    unknown_policies,
)
from lightning_nndyn.evaluation.replay.outcome import Outcome, counted, known_outcomes
from lightning_nndyn.evaluation.replay.policies import SweepPolicy, name_of
from lightning_nndyn.evaluation.replay.sampled_sweeps import Run, corpus_runs, sweeps
from lightning_nndyn.evaluation.replay.tables import Subject, write

Said = Callable[[str], None]


@dataclass(frozen=True)
class _Band:
    """The sweeps of one band of a corpus: the same for all ways of stopping."""

    path: str
    fingerprint: str
    subject: Subject
    count: int
    size: int
    seed: int

    def sweeps(self) -> list[list[Run]]:
        runs = corpus_runs(self.path, self.fingerprint).runs
        return sweeps(runs, self.subject.band, self.count, self.size, self.seed)


@dataclass(frozen=True)
class _Play:
    """A way of stopping on the sweeps of one band."""

    band: _Band
    policy: SweepPolicy

    @property
    def name(self) -> str:
        subject = self.band.subject
        return f"{subject.corpus} {subject.band} {name_of(self.policy)}"

    @property
    def settings(self) -> str:
        band = self.band
        return repr(
            [__version__, band.fingerprint, band.subject.band, self.policy, band.count, band.size, band.seed]
        )

    @property
    def key(self) -> str:
        return part_key(self.name, self.settings)

    def outcome(self, kept: Parts) -> Outcome | None:
        """What came out; None where time was up."""
        numbers = kept.get(self.name, self.settings, lambda: counted(self.policy, self.band.sweeps()))
        if numbers is None:
            return None
        subject, policy = self.band.subject, self.policy
        return Outcome(
            corpus=subject.corpus,
            band=subject.band,
            policy=name_of(policy),
            family=policy.family,
            ours=policy.ours,
            part=self.key,
            **numbers,
        )


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
    said: Said = lambda message: None,
) -> list[Outcome] | None:
    """Replay corpora as sweeps in random order under every way of stopping, and write what came out.

    Writes `replay.json` (the rows), `replay.md` (their tables; text around the two marks in an existing file
    stays) and `figures/replay.png`. The same arguments give the same files. What is finished is kept in
    `cache`, so that a replay that was cut goes on; and what `replay.json` in `output` has of the same corpora
    and settings is not played again: a corpus more costs what is new. After a change of the code delete both.

    Args:
        corpora: corpus folders or parquet files.
        output: folder to write to.
        count: sweeps of each corpus and band, in the same orders for all ways of stopping.
        size: runs in a sweep.
        seed: of orders, folds and forests.
        jobs: processes.
        cache: folder for finished parts.
        minutes: begin no part after so many; None for no end.
        said: called with a line about each part.

    Returns:
        Outcomes by corpus and band, ours last. None if time was up before all parts were finished: nothing is
        written then.

    Raises:
        CorpusError: a corpus cannot be read.
        PredictorError: a corpus has no runs, or too few to fit a predictor.
        MissingExtraError: optuna, pyarrow (for parquet) or matplotlib is not installed.
    """
    kept = Parts.within(cache, minutes)
    known = known_outcomes(Path(output) / "replay.json")
    found: dict[Subject, list[Outcome | None]] = {}
    bands = [band for corpus in corpora for band in _bands(str(corpus), count, size, seed)]
    work = [_Play(band, policy) for band in bands for policy in entrants()]
    for outcome, play in zip(_played(work, kept, known, jobs, said), work, strict=True):
        found.setdefault(play.band.subject, []).append(outcome)
    folds = _folds(bands, kept, seed, jobs, said)
    unknown = _unknown(bands, kept, seed, jobs, said)
    work = [
        _Play(band, policy)
        for band in bands
        if band.path in folds and band.path in unknown
        for policy in (*held_out_policies(folds[band.path]), *unknown_policies(unknown[band.path]))
    ]
    for outcome, play in zip(_played(work, kept, known, jobs, said), work, strict=True):
        found[play.band.subject].append(outcome)
    outcomes = [outcome for own in found.values() for outcome in own if outcome is not None]
    if min(len(folds), len(unknown)) < len({band.path for band in bands}) or any(
        None in own for own in found.values()
    ):
        said(f"time is up, {len(outcomes)} parts are finished: run the same command again to go on")
        return None
    write(outcomes, list(found), count, size, Path(output))
    return outcomes


def _bands(path: str, count: int, size: int, seed: int) -> Iterator[_Band]:
    """Those that have enough runs for a sweep."""
    printed = fingerprint(path)
    corpus = corpus_runs(path, printed)
    for band in BANDS:
        drawn = sweeps(corpus.runs, band, count, size, seed)
        if drawn:
            subject = Subject.of(corpus.collection.name, band, corpus.runs, drawn)
            yield _Band(path, printed, subject, count, size, seed)


def _parallel(jobs: int, function: Callable[..., Any], work: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    yield from parallel(joblib.delayed(function)(*arguments) for arguments in work)


def _played(
    work: Sequence[_Play], kept: Parts, known: Mapping[str, dict[str, Any]], jobs: int, said: Said
) -> Iterator[Outcome | None]:
    """What came out, in order; None where time was up."""
    kept = replace(kept, known=known)
    plays = [(play, kept.only(play.key)) for play in work]
    for one in _parallel(jobs, _Play.outcome, plays):
        if one is not None:
            said(
                f"{one.corpus}, {one.band}: {one.policy}: {one.epochs_share:.1%} of the epochs, "
                f"regret {100 * one.regret:.2f} points ({one.seconds:.1f} s)"
            )
        yield one


def _folds(bands: Sequence[_Band], kept: Parts, seed: int, jobs: int, said: Said) -> dict[str, list[Fold]]:
    """What our predictors say of held-out runs, by the corpus' path; left out where time was up."""
    work = [(band, number, seed, kept) for band in _first(bands) for number in range(FOLDS)]
    found: dict[str, list[Fold]] = {}
    for fold, (band, number, *_) in zip(_parallel(jobs, _judged, work), work, strict=True):
        if fold is not None:
            said(f"{band.subject.corpus}: fold {number + 1} of {FOLDS} judged ({fold['seconds']:.1f} s)")
            found.setdefault(band.path, []).append(fold)
    return {path: folds for path, folds in found.items() if len(folds) == FOLDS}


def _judged(band: _Band, number: int, seed: int, kept: Parts) -> Fold | None:
    settings = [__version__, band.fingerprint, number, seed, RATES, TIMES]
    return kept.get(
        f"{band.subject.corpus} fold {number}",
        repr(settings),
        lambda: judge_fold(corpus_runs(band.path, band.fingerprint).collection, number, seed),
    )


def _unknown(bands: Sequence[_Band], kept: Parts, seed: int, jobs: int, said: Said) -> dict[str, Fold | None]:
    """What a predictor says of a corpus that was fitted to all others, by the corpus' path; as `_folds`.

    None where there is no other.
    """
    corpora = _first(bands)
    if len(corpora) == 1:
        return {corpora[0].path: None}
    work = [(corpora, number, seed, kept) for number in range(len(corpora))]
    found: dict[str, Fold | None] = {}
    for fold, band in zip(_parallel(jobs, _judged_unknown, work), corpora, strict=True):
        if fold is not None:
            said(f"{band.subject.corpus}: judged by all others ({fold['seconds']:.1f} s)")
            found[band.path] = fold
    return found


def _judged_unknown(corpora: Sequence[_Band], number: int, seed: int, kept: Parts) -> Fold | None:
    settings = [__version__, [band.fingerprint for band in corpora], number, seed, TIMES]
    return kept.get(
        f"{corpora[number].subject.corpus} by all others",
        repr(settings),
        lambda: judge_unknown([Collection.load([band.path]) for band in corpora], number, seed),
    )


def _first(bands: Sequence[_Band]) -> list[_Band]:
    """One band of each corpus."""
    return list({band.path: band for band in bands}.values())
