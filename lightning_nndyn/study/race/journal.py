"""Finished laps on disk, a line each, so that a race that was cut goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from lightning_nndyn._files import try_lock
from lightning_nndyn.errors import SweepError
from lightning_nndyn.study.race.standing import Lap


class Journal:
    """Finished laps, in a file of this process.

    Attributes:
        laps: by lap number and candidate.
    """

    def __init__(self, file: BinaryIO, laps: dict[tuple[int, int], Lap]) -> None:
        self._file, self.laps = file, laps

    def add(self, lap: Lap) -> None:
        """Keeps a finished lap: it is on disk when this returns."""
        _append(self._file, asdict(lap))
        self.laps[lap.number, lap.candidate] = lap


@contextmanager
def open_journal(path: Path, settings: Mapping[str, Any]) -> Iterator[Journal]:
    """Opens a race's file, or begins one.

    Args:
        path: of the file; its folder is made.
        settings: of the race, JSON-able: those of the file must be the same.

    Raises:
        ValueError: settings are not JSON-able.
        SweepError: another process has it open, it holds another race or something else, or it cannot be
            written.
    """
    try:
        settings = json.loads(json.dumps(settings))  # as it will be read
    except TypeError as error:
        raise ValueError(f"a race is kept as JSON, and {error}: give plain numbers and texts") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise SweepError(f"{path} cannot be opened: {error}; name another file") from error
    # The lock is a file of its own: on Windows a locked file cannot be read by another process.
    with file, try_lock(path.with_name(f"{path.name}.lock")) as free:
        if not free:
            raise SweepError(f"{path}: another process runs this race; wait for it, or name another file")
        lines = _whole_lines(file)
        if lines:
            _check(path, lines[0], settings)
        else:
            _append(file, settings)
        found = [_lap(path, line) for line in lines[1:]]
        yield Journal(file, {(lap.number, lap.candidate): lap for lap in found})


def _whole_lines(file: BinaryIO) -> list[dict[str, Any]]:
    """What the file holds; what a killed process has left half-written is cut off."""
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        file.truncate(whole)
    try:
        return [json.loads(line) for line in content[:whole].splitlines()]
    except ValueError as error:
        raise SweepError(f"{file.name} is no race's file ({error}): name another") from error


def _lap(path: Path, line: Any) -> Lap:
    try:
        return Lap(**line)
    except TypeError as error:
        raise SweepError(f"{path} holds {_short(line)}, which is no lap of a race: name another") from error


def _check(path: Path, known: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuses to go on with another race."""
    for name, value in settings.items():
        if not isinstance(known, dict) or known.get(name) != value:
            there = known.get(name) if isinstance(known, dict) else known
            raise SweepError(
                f"{path} holds a race with other {name}: {_short(there)} there, {_short(value)} here; "
                "take the same, or name another file"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _append(file: BinaryIO, line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
