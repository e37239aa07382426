"""Tasks of an evaluation, whose results are kept in a folder: an interrupted evaluation continues."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib

from lightning_nndyn._files import decode, read_json
from lightning_nndyn.corpus.storage.folder import write_atomically

Part = dict[str, Any]
"""The result of a task, JSON-able; `seconds` is the time that it took to compute."""


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


@dataclass(frozen=True)
class Task:
    """A piece of an evaluation, which any process can compute.

    Attributes:
        name: for readers. With the settings it makes the key, by which published results are recognised: a
            changed name means that they are computed again.
        settings: all that the part depends on, as text.
        compute: gives a JSON-able part; `seconds` is added to it.
    """

    name: str
    settings: str
    compute: Callable[[], Part]

    @property
    def key(self) -> str:
        """The name of the part's file, which identifies it; published results name it, too."""
        digest = hashlib.sha256(self.settings.encode()).hexdigest()[:16]
        return f"{re.sub(r'[^a-z0-9]+', '-', self.name.lower())}-{digest}.json"

    def run(self, cache: PartCache) -> Part | None:
        """The part, read or computed; None where it is not in the cache and the deadline has passed.

        Raises:
            CorpusError: the cache's folder cannot be written.
        """
        file = None if cache.folder is None else cache.folder / self.key
        if file is not None:
            with suppress(OSError, ValueError):  # it is not there, or damaged: computed again
                return decode(read_json(file), Part)
        if time.time() > cache.deadline:
            return None
        begin = time.perf_counter()
        part = self.compute() | {"seconds": round(time.perf_counter() - begin, 2)}
        if file is not None:
            write_atomically(file, json.dumps(part).encode())
        return part


def run_tasks(tasks: Sequence[Task], cache: PartCache, jobs: int) -> Iterator[Part | None]:
    """The parts of tasks in their order, computed in so many processes; None for those that are too late."""
    yield from in_processes(Task.run, [(task, cache) for task in tasks], jobs)


def in_processes(
    function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], jobs: int
) -> Iterator[Any]:
    """What a function returns for each tuple of arguments, in their order."""
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    yield from parallel(joblib.delayed(function)(*own) for own in arguments)


@dataclass(frozen=True)
class Source:
    """A corpus by its path and its content."""

    path: str
    fingerprint: str

    @classmethod
    def at(cls, path: Path | str) -> Source:
        """The corpus as it is now."""
        return cls(str(path), fingerprint(path))


def fingerprint(corpus: Path | str) -> str:
    """A hash of a corpus' files, which changes when any of them does."""
    path, total = Path(corpus), hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            total.update(file.name.encode())
            total.update(file.read_bytes())
    return total.hexdigest()
