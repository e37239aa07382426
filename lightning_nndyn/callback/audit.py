"""Audits: runs that were flagged to stop but may finish, to measure how often the decisions are wrong.

Each stop is overridden with a known probability, the audit share. The outcomes of the audited runs, weighted
by one over that probability (Horvitz and Thompson, 1952), stand for the outcomes of the runs that were
stopped. The runs of one folder share their outcomes through one file of JSON lines.
"""

from __future__ import annotations

import errno
import math
import os
import random
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from lightning_nndyn._files import Finite, read_bytes
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.predictor.low_accuracy import LowAccuracyRule

AUDIT_FILE = "nndyn-audit.jsonl"
"""Name of the file with the outcomes of a folder's runs."""

SWITCHED_OFF = "stops nothing any more"
"""Beginning of the reason where too many good runs were flagged, so that no more runs are stopped."""

_CONFIDENCE = 0.95
_BISECTION_STEPS = 30


class AuditedRun(msgspec.Struct, frozen=True, rename={"flagged_to_stop": "condemned"}):
    """The outcome of a run that was not stopped: a line of the audit file.

    Attributes:
        accuracy: its best validation accuracy, a fraction.
        classes: number of classes of its task.
        flagged_to_stop: whether the decision was to stop it; it finished nevertheless.
        share: the probability with which such a run may finish: 1 where no run is ever stopped.
        run: its name; of several lines for one run the last counts. It is a key, no part of a file's name.
    """

    accuracy: Finite
    classes: Annotated[int, msgspec.Meta(ge=2, le=2**31)]
    flagged_to_stop: bool
    share: Annotated[float, msgspec.Meta(ge=1e-300, le=1)]
    run: Annotated[str, msgspec.Meta(pattern=r"\A[\w-]{0,64}\Z")] = ""


_decoder = msgspec.json.Decoder(AuditedRun)


@dataclass(frozen=True)
class FalseStopEstimate:
    """The measured false-stop rate: of the runs that end good, the share that is flagged to stop.

    Attributes:
        rate: inverse-probability weighted estimate; None without good runs.
        lower_bound: exceeded by the true rate with a confidence of 95 %; 0 without good runs.
        num_good: number of good runs that the estimate rests on.
    """

    rate: float | None
    lower_bound: float
    num_good: int


def estimate_false_stop_rate(
    runs: Sequence[AuditedRun], low_threshold: float | None, low_share: float | None
) -> FalseStopEstimate:
    """Estimates the false-stop rate from runs that finished.

    Among the good runs that finish, one with the audit share s is a flagged one with odds
    ``rate * s : 1 - rate``. The lower bound is the smallest rate at which as many flagged runs as were seen
    have a probability of 5 % or more: exact (Clopper and Pearson, 1934), also where shares differ.

    Args:
        runs: runs that finished: flagged and audited, or never flagged.
        low_threshold: accuracy below which a run is low.
        low_share: instead of it, a share of the best accuracy among these runs.
    """
    best = max((run.accuracy for run in runs), default=0.0)
    rule = LowAccuracyRule(low_threshold, low_share)
    good = [run for run in runs if run.accuracy >= rule.lowest_good_accuracy(best, guess=1 / run.classes)]
    flagged = [run for run in good if run.flagged_to_stop]
    if not good:
        return FalseStopEstimate(None, 0.0, 0)
    weight = sum(1 / run.share for run in flagged)
    rate = weight / (weight + len(good) - len(flagged))
    return FalseStopEstimate(rate, _lower_bound(len(flagged), [run.share for run in good]), len(good))


def exemption_reason(
    folder: Path, share: float, max_rate: float, low_threshold: float | None, low_share: float | None
) -> str:
    """Why a run that begins will not be stopped, whatever is decided; empty if it may be stopped.

    Args:
        folder: where the audit file lies.
        share: the audit share.
        max_rate: the false-stop rate that is allowed.
        low_threshold: accuracy below which a run is low.
        low_share: instead of it, a share of the best accuracy.
    """
    found = estimate_false_stop_rate(read_audited_runs(folder), low_threshold, low_share)
    if found.lower_bound > max_rate:
        return (
            f"{SWITCHED_OFF}: of {found.num_good} good runs that finished, so many were to be stopped that "
            f"more than {found.lower_bound:.1%} of good runs are, and max_false_stop_rate is {max_rate:.1%}"
        )
    return draw_audit(share)


def draw_audit(share: float) -> str:
    """Why a run that begins is audited, with probability `share`; empty if it is not."""
    # Not from the generators that training draws from.
    drawn = random.SystemRandom().random() < share
    return f"lets this run finish whatever is decided, as an audit (audit_share={share})" if drawn else ""


def append_audited_run(folder: Path, run: AuditedRun) -> None:
    """Adds a run to the audit file, in one write, so that runs may end side by side.

    Raises:
        OSError: if the disk is full or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A line break before it as well: the line before may have been cut off.
    line = b"\n%s\n" % msgspec.json.encode(run)
    file = os.open(folder / AUDIT_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        if os.write(file, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / AUDIT_FILE))
    finally:
        os.close(file)


def read_audited_runs(folder: Path) -> list[AuditedRun]:
    """The runs in the audit file. Other lines are skipped; a warning tells of those that were not cut off."""
    path = folder / AUDIT_FILE
    try:
        content = read_bytes(path)
    except OSError:
        return []
    try:
        runs = _decoder.decode_lines(content)  # 20,000 in 30 ms
    except (ValueError, RecursionError):
        runs = _decode_each(path, content.split(b"\n"))
    return list({run.run or index: run for index, run in enumerate(runs)}.values())


def _decode_each(path: Path, lines: Sequence[bytes]) -> list[AuditedRun]:
    runs, strange = [], []
    for number, line in enumerate(map(bytes.strip, lines), start=1):
        try:
            runs += [_decoder.decode(line)] if line else []
        except (ValueError, RecursionError) as error:
            strange += [f"line {number}: {error}"] if line.endswith(b"}") else []
    if strange:
        message = f"{path} has {len(strange)} lines that are no outcomes of runs and do not count"
        warnings.warn(f"{message} ({strange[0]}): delete them", NNDynWarning, stacklevel=3)
    return runs


def _lower_bound(num_flagged: int, shares: Sequence[float]) -> float:
    """The rate at which `num_flagged` or more among the finished good runs have a probability of 5 %."""
    if not num_flagged:
        return 0.0
    runs_by_share = Counter(share for share in shares if share)
    low, high = 0.0, 1.0
    for _ in range(_BISECTION_STEPS):
        rate = (low + high) / 2
        groups = [(rate * share / (rate * share + 1 - rate), runs) for share, runs in runs_by_share.items()]
        if _probability_of_at_least(num_flagged, groups) < 1 - _CONFIDENCE:
            low = rate
        else:
            high = rate
    return low


def _probability_of_at_least(count: int, groups: Iterable[tuple[float, int]]) -> float:
    """The probability that `count` or more of independent events occur.

    Args:
        count: at least 1.
        groups: the probability of an event, between 0 and 1, and how many events have it.
    """
    fewer = np.ones(1)  # probability of 0, 1, ... events so far
    for probability, events in groups:
        fewer = np.convolve(fewer, _binomial(events, probability, count))[:count]
    return 1 - float(fewer.sum())


def _binomial(events: int, probability: float, count: int) -> NDArray[np.float64]:
    """The probability of 0, 1, ... of `events` events, `count` numbers at most."""
    return np.exp(
        [
            math.lgamma(events + 1) - math.lgamma(occur + 1) - math.lgamma(events - occur + 1)
            + occur * math.log(probability) + (events - occur) * math.log1p(-probability)
            for occur in range(min(count, events + 1))
        ]
    )  # fmt: skip
