"""The file of a race: a JSON line for each candidate at each rung, so that a race that was cut goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from lightning_nndyn._files import Count, Finite, decode, parse_json, try_lock
from lightning_nndyn.errors import SweepError
from lightning_nndyn.sweep import SweepReading

_KEYS = {"rung": "number", "best_accuracy": "seen", "failure": "out", "out_of_domain": "strange"}
_NAMES = {key: name for name, key in _KEYS.items()}


@dataclass(frozen=True)
class RungResult:
    """How training one candidate to one rung ended.

    Attributes:
        candidate: its index among all.
        rung: index of the rung; after the last rung, candidates are trained to their end.
        predicted: final accuracy, a fraction (by a predictor over several data sets, of the best accuracy);
            None without a prediction.
        best_accuracy: best validation accuracy so far, a fraction; None before the first.
        value: what training returned, if it went to the end.
        failure: why the candidate cannot go on: an exception, or weights that are not finite; else empty.
        out_of_domain: why the predictor does not apply to this run; empty if it does.
        seconds: of training.
        readings: what was read up to the rung, by which the candidates are ranked with each other; empty
            where something else ranks them.
    """

    candidate: Count
    rung: Count
    predicted: Finite | None = None
    best_accuracy: Finite | None = None
    value: float | None = None
    failure: str = ""
    out_of_domain: str = ""
    seconds: Finite = 0.0
    readings: Sequence[SweepReading] = ()


class RaceJournal:
    """Results in a file that no other process has open.

    Attributes:
        results: by rung and candidate.
    """

    def __init__(self, file: BinaryIO, results: dict[tuple[int, int], RungResult]) -> None:
        self._file, self.results = file, results

    def add(self, result: RungResult) -> None:
        """Store a result: it is on disk when this returns."""
        line = {_KEYS.get(name, name): value for name, value in asdict(replace(result, readings=())).items()}
        del line["readings"]
        if result.readings:
            line["readings"] = [reading.to_dict() for reading in result.readings]
        _append(self._file, line)
        self.results[result.rung, result.candidate] = result


@contextmanager
def open_journal(path: Path, settings: Mapping[str, Any]) -> Iterator[RaceJournal]:
    """Open a race's file, or create it.

    Args:
        path: of the file; its folder is created.
        settings: of the race, JSON-able: those in the file must be the same.

    Raises:
        ValueError: settings are not JSON-able.
        SweepError: another process has it open, it holds another race or something else, or it cannot be
            written.
    """
    try:
        settings = json.loads(json.dumps(settings))  # as it is read from the file
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
        lines = _read_lines(file)
        if lines:
            _check_settings(path, lines[0], settings)
        else:
            _append(file, settings)
        results = [_parse(path, line) for line in lines[1:]]
        yield RaceJournal(file, {(result.rung, result.candidate): result for result in results})


def _read_lines(file: BinaryIO) -> list[Any]:
    """Parse the file's lines, and cut off an incomplete last line, which a killed process has left."""
    file.seek(0)
    content = file.read()
    complete = content.rfind(b"\n") + 1
    if complete < len(content):
        file.truncate(complete)
    try:
        return [parse_json(line) for line in content[:complete].splitlines()]
    except ValueError as error:
        raise SweepError(f"{file.name} is no race's file ({error}): name another") from error


def _parse(path: Path, line: Any) -> RungResult:
    try:
        content = {_NAMES.get(key, key): value for key, value in line.items() if key != "readings"}
        readings = decode(line.get("readings", []), list[dict[str, Any]])
        return replace(decode(content, RungResult), readings=tuple(map(SweepReading.from_dict, readings)))
    except (AttributeError, ValueError) as error:
        message = f"{path} holds {_shortened(line)}, which is no result of a race ({error}): name another"
        raise SweepError(message) from error


def _check_settings(path: Path, known: Any, settings: Mapping[str, Any]) -> None:
    """Refuse to go on with another race."""
    for name, value in settings.items():
        if not isinstance(known, dict) or known.get(name) != value:
            there = _shortened(known.get(name) if isinstance(known, dict) else known)
            raise SweepError(
                f"{path} holds a race with other {name}: {there} there, {_shortened(value)} here; "
                "take the same, or name another file"
            )


def _shortened(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _append(file: BinaryIO, line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
