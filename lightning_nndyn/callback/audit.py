"""Condemned runs that are let finish on purpose: how often the decisions are wrong, in the field.

Each stop is overridden with a known probability, the audit share. What became of the audited runs, weighted
by one over that probability (Horvitz and Thompson, 1952), stands for what became of the stopped ones.
"""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

LEDGER = "nndyn-audit.jsonl"
"""Name of the file in which runs of one folder tell each other how they ended."""

SWITCHED_OFF = "stops nothing any more"
"""How the reason begins where too many good runs are condemned."""

_CONFIDENCE = 0.95
_HALVINGS = 30


@dataclass(frozen=True)
class Ended:
    """How a run that was not stopped has ended.

    Attributes:
        accuracy: its best validation accuracy, a fraction.
        classes: how many classes it tells apart.
        condemned: whether it was to be stopped, and went on.
        share: the probability with which it was let finish, had it been condemned or not: 1 where nothing is
            ever stopped.
        run: its name; of several lines for one run the last counts.
    """

    accuracy: float
    classes: int
    condemned: bool
    share: float
    run: str = ""


@dataclass(frozen=True)
class FieldRate:
    """The false-stop rate in the field: of the runs that end good, the share that is condemned.

    Attributes:
        estimate: inverse-probability weighted; None without good runs.
        lower: what the rate exceeds with a confidence of 95 %; 0 without good runs.
        good: how many good runs it rests on.
    """

    estimate: float | None
    lower: float
    good: int


def field_rate(ended: Sequence[Ended], low_threshold: float | None, low_share: float | None) -> FieldRate:
    """Estimates the false-stop rate from runs that were let finish.

    Of the good runs that finish, one with the audit share s is a condemned one with odds
    ``rate * s : 1 - rate``. The lower bound is the least rate at which as many condemned ones as were seen
    have a chance of 5 % or more: exact, after Clopper and Pearson (1934), also where shares differ.

    Args:
        ended: runs that finished, condemned and audited or never condemned.
        low_threshold: accuracy below which a run is low.
        low_share: instead of it, a share of the best accuracy among these runs.
    """
    best = max((run.accuracy for run in ended), default=0.0)
    good = [run for run in ended if run.accuracy >= _bar(run, best, low_threshold, low_share)]
    condemned = [run for run in good if run.condemned]
    if not good:
        return FieldRate(None, 0.0, 0)
    weight = sum(1 / run.share for run in condemned)
    estimate = weight / (weight + len(good) - len(condemned))
    return FieldRate(estimate, _lower_bound(len(condemned), [run.share for run in good]), len(good))


def why_spared(
    folder: Path, share: float, budget: float, low_threshold: float | None, low_share: float | None
) -> str:
    """Why a run that begins is not stopped; empty if it may be.

    Drawn anew for each run, from a source of random numbers that training does not use.

    Args:
        folder: of the ledger.
        share: the audit share.
        budget: the false-stop rate that is allowed.
        low_threshold: accuracy below which a run is low.
        low_share: instead of it, a share of the best accuracy.
    """
    rate = field_rate(read_ended(folder), low_threshold, low_share)
    if rate.lower > budget:
        return (
            f"{SWITCHED_OFF}: of {rate.good} good runs that finished, so many were condemned that more than "
            f"{rate.lower:.1%} of good runs are, and max_false_stop_rate is {budget:.1%}"
        )
    drawn = random.SystemRandom().random() < share
    return f"lets this run finish whatever is decided, as an audit (audit_share={share})" if drawn else ""


def append_ended(folder: Path, run: Ended) -> None:
    """Adds a run to the ledger; a line is written at once, so that runs may end side by side.

    Raises:
        OSError: if the disk is full or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A line break before it as well: the line before may have been cut off.
    line = f"\n{json.dumps(asdict(run))}\n".encode()
    file = os.open(folder / LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        if os.write(file, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / LEDGER))
    finally:
        os.close(file)


def read_ended(folder: Path) -> list[Ended]:
    """The ledger's runs; lines that were cut off are passed over."""
    try:
        lines = (folder / LEDGER).read_bytes().splitlines()
    except OSError:
        return []
    found: dict[Any, Ended] = {}
    for place, line in enumerate(lines):
        try:
            run = Ended(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[run.run or place] = run
    return list(found.values())


def _bar(run: Ended, best: float, low_threshold: float | None, low_share: float | None) -> float:
    """The accuracy from which on a run is good."""
    if low_share is None:
        return float(low_threshold or 0)
    return 1 / run.classes + low_share * (best - 1 / run.classes)


def _lower_bound(hits: int, shares: Sequence[float]) -> float:
    """The rate at which `hits` or more condemned ones among finished runs have a chance of 5 %."""
    if not hits:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        rate = (low + high) / 2
        if _chance(hits, [rate * share / (rate * share + 1 - rate) for share in shares]) < 1 - _CONFIDENCE:
            low = rate
        else:
            high = rate
    return low


def _chance(hits: int, probabilities: Sequence[float]) -> float:
    """That `hits` or more of independent events come true."""
    fewer = np.zeros(hits)  # the chance of 0, 1, ... events so far
    fewer[0] = 1.0
    for probability in probabilities:
        fewer[1:] += probability * (fewer[:-1] - fewer[1:])
        fewer[0] *= 1 - probability
    return 1 - float(fewer.sum())
