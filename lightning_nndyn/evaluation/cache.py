"""Finished parts of an evaluation in a folder of files, so that an interrupted evaluation continues."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_nndyn._files import decode, read_json
from lightning_nndyn.corpus.storage.folder import write_atomically

Part = dict[str, Any]
"""JSON-able; `seconds` is the time that it took to compute."""


@dataclass(frozen=True)
class PartCache:
    """A folder with one JSON file for each finished part.

    Attributes:
        folder: made when the first part is written. None: nothing is kept.
        deadline: no part is begun after this, in seconds since 1970.
    """

    folder: Path | None
    deadline: float = float("inf")

    @classmethod
    def within(cls, folder: Path | str | None, minutes: float | None) -> PartCache:
        """A cache whose deadline is so many minutes from now; None for no deadline."""
        deadline = float("inf") if minutes is None else time.time() + 60 * minutes
        return cls(None if folder is None else Path(folder), deadline)

    def add(self, parts: Mapping[str, Part]) -> None:
        """Add parts that are known from published results, by their keys; parts already there stay.

        Raises:
            CorpusError: the folder cannot be written.
        """
        if self.folder is not None:
            for key, part in parts.items():
                if not (self.folder / key).exists():
                    write_atomically(self.folder / key, json.dumps(part).encode())

    def get(self, name: str, settings: str, compute: Callable[[], Part]) -> Part | None:
        """Read a part, or compute and write it.

        Args:
            name: for readers, in the file's name.
            settings: all that the part depends on.
            compute: gives a JSON-able part; `seconds` is added to it.

        Returns:
            The part; None where it is not in the folder and the deadline has passed.

        Raises:
            CorpusError: the folder cannot be written.
        """
        file = None if self.folder is None else self.folder / part_key(name, settings)
        if file is not None:
            with suppress(OSError, ValueError):  # it is not there, or damaged: computed again
                return decode(read_json(file), Part)
        if time.time() > self.deadline:
            return None
        begin = time.perf_counter()
        part = compute() | {"seconds": round(time.perf_counter() - begin, 2)}
        if file is not None:
            write_atomically(file, json.dumps(part).encode())
        return part


def part_key(name: str, settings: str) -> str:
    """The name of a part's file, which identifies it; published results name it, too."""
    digest = hashlib.sha256(settings.encode()).hexdigest()[:16]
    return f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{digest}.json"


def fingerprint(corpus: Path | str) -> str:
    """A hash of a corpus' files, which changes when any of them does."""
    path, total = Path(corpus), hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            total.update(file.name.encode())
            total.update(file.read_bytes())
    return total.hexdigest()
