"""The record of a run on disk: what a predictor of one's own is fitted to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_nndyn._files import write_atomically
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.signature.snapshot import Snapshot

FORMAT = 1
PATTERN = "nndyn-*.json"
"""Names of run records."""


def write_run(path: Path, content: Mapping[str, Any], history: str = "[]") -> None:
    """Writes a run's record; it appears whole or not at all, and replaces an older one of the run.

    Args:
        path: of the file.
        content: of the record, but for its snapshots.
        history: the snapshots as JSON.

    Raises:
        OSError: if the disk is full or the folder cannot be written.
    """
    rest = json.dumps({"format": FORMAT, **content})
    write_atomically(path, f'{rest[:-1]}, "history": {history}}}'.encode())


class HistoryText:
    """One run's snapshots as JSON. They come one after another, and each is encoded once."""

    def __init__(self) -> None:
        self._encoded: list[str] = []

    def of(self, history: Sequence[Snapshot]) -> str:
        """The snapshots so far, those included that were given before."""
        new = history[len(self._encoded) :]
        self._encoded += [json.dumps(snapshot.to_dict()) for snapshot in new]
        return f"[{', '.join(self._encoded)}]"


def read_run(path: Path) -> dict[str, Any]:
    """Reads what `write_run` wrote.

    Raises:
        PredictorError: if the file cannot be read, or is of another format.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        found = content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PredictorError(f"{path} is not a readable record of a run ({error!r}): delete it") from error
    if found != FORMAT:
        raise PredictorError(f"{path} has format {found}, this release reads {FORMAT}")
    return content


def find_runs(folder: Path | str) -> Iterator[Path]:
    """All records under a folder, in the order of their names."""
    return iter(sorted(Path(folder).rglob(PATTERN)))


def plain_number(value: Any) -> float | None:
    """A metric as a JSON number; None for what is not finite or not a number."""
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if math.isfinite(number) else None
