"""From records to a page on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_nndyn._files import write_atomically
from lightning_nndyn.errors import ReportError
from lightning_nndyn.evaluation.report.low_runs import report_rule
from lightning_nndyn.evaluation.report.page import page
from lightning_nndyn.evaluation.report.records import load
from lightning_nndyn.evaluation.report.replay import Replay, replay_runs
from lightning_nndyn.evaluation.report.summary import Summary, summarise


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        file: the page.
        size: its bytes.
        summary: the runs in numbers.
        replayed: other ways of stopping on the same runs.
        unreadable: for each record that could not be read, and each path without any, why.
        all_used: whether a record could be read in each of the given paths.
    """

    file: Path
    size: int
    summary: Summary
    replayed: Replay
    unreadable: list[str]
    all_used: bool


def write_report(
    paths: Sequence[Path | str],
    output: Path | str,
    *,
    metric: str | None = None,
    low_threshold: float | None = None,
    low_share: float | None = None,
    title: str = "Training runs",
    seed: int = 0,
) -> Report:
    """Writes one self-contained HTML page about recorded runs; it appears whole or not at all.

    Args:
        paths: folders, searched with all folders in them, and records (``nndyn-*.json``).
        output: the page's file; an existing one is replaced.
        metric: the validation accuracy; None takes what most runs have as their `monitor`.
        low_threshold: accuracy below which a run is low; None takes the predictor's, as records tell it.
        low_share: instead of it, a share of the best accuracy.
        title: the page's.
        seed: of the orders in which other ways of stopping meet the runs.

    Raises:
        ReportError: there is no record that can be read, an argument is out of its range, or the page cannot
            be written.
    """
    found = load([Path(path) for path in paths], metric)
    rule = report_rule(found.runs, low_threshold, low_share)
    summary, replayed = summarise(found, rule), replay_runs(found.runs, rule, seed)
    content = page(found, rule, summary, replayed, title).encode(
        errors="backslashreplace"
    )  # a folder's name may be no Unicode
    _write(Path(output), content)
    unreadable = [*found.unreadable.values(), *found.missing]
    return Report(Path(output), len(content), summary, replayed, unreadable, found.all_used)


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ReportError(f"cannot write the page to {str(path)!r} ({error}): give another place") from error
