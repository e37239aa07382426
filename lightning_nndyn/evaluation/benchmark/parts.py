"""Finished parts of a long computation, kept in files, so that it goes on where it was cut."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning_nndyn.corpus.storage.folder import write_atomically


@dataclass(frozen=True)
class Parts:
    """A folder of finished parts.

    Attributes:
        folder: where they lie; made when the first is written. None: nothing is kept.
        until: no part begins after this, in seconds since 1970.
        known: parts that are finished elsewhere, by the names of their files.
    """

    folder: Path | None
    until: float = float("inf")
    known: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def within(cls, folder: Path | str | None, minutes: float | None) -> Parts:
        """Those in a folder, of which none begins after so many minutes from now; None for no end."""
        until = float("inf") if minutes is None else time.time() + 60 * minutes
        return cls(None if folder is None else Path(folder), until)

    def only(self, key: str) -> Parts:
        """The same, knowing of no part but one: less to send to another process."""
        return replace(self, known={key: self.known[key]} if key in self.known else {})

    def get(self, name: str, settings: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """A part: from its file, or made, timed (`seconds`) and written.

        Args:
            name: for readers, in its file's name.
            settings: all that it depends on, for the part of the name that tells it from others.
            make: computes it; JSON-able.

        Returns:
            None where it is not there and it is too late to begin.

        Raises:
            CorpusError: the folder cannot be written.
        """
        key = part_key(name, settings)
        if key in self.known:
            return self.known[key]
        file = None if self.folder is None else self.folder / key
        if file is not None and file.exists():
            found: dict[str, Any] = json.loads(file.read_text())
            return found
        if time.time() > self.until:
            return None
        begin = time.perf_counter()
        made = make() | {"seconds": round(time.perf_counter() - begin, 2)}
        if file is not None:
            write_atomically(file, json.dumps(made).encode())
        return made


def part_key(name: str, settings: str) -> str:
    """The name of a part's file, by which it is told from all others."""
    digest = hashlib.sha256(settings.encode()).hexdigest()[:16]
    return f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{digest}.json"


def fingerprint(corpus: Path | str) -> str:
    """Of a corpus' files: another one where any of them changes."""
    path, total = Path(corpus), hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            total.update(file.name.encode())
            total.update(file.read_bytes())
    return total.hexdigest()
