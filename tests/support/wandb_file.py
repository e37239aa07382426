"""Reads what wandb has written of a run: LevelDB's log format, of protocol buffers."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK, _FILE_HEADER, _HEADER = 32768, 7, 7
_FULL, _LAST = 1, 4


@dataclass
class WandbRun:
    """A run's file: rows of its history, its summary, its exit code (None while it runs)."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    sweep: str = ""


def read(folder: Path) -> WandbRun:
    """The one run under a folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.rglob("*.wandb")
    run = WandbRun()
    for payload in _payloads(file.read_bytes()):
        record = Record.FromString(payload)
        if record.HasField("history"):
            run.rows.append(_values(record.history.item))
        elif record.HasField("summary"):
            run.summary |= _values(record.summary.update)
        elif record.HasField("run"):
            run.sweep, run.config = record.run.sweep_id, _values(record.run.config.update)
        elif record.HasField("exit"):
            run.exit_code = record.exit.exit_code
    return run


def _payloads(content: bytes) -> Iterator[bytes]:
    assert content[:4] == b":W&B"
    place, parts = _FILE_HEADER, []
    while place + _HEADER <= len(content):
        if _BLOCK - place % _BLOCK < _HEADER:  # no header fits in what is left of the block
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        place += _HEADER + length
        parts.append(content[place - length : place])
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
            parts = []


def _values(items: Any) -> dict[str, Any]:
    """The values by name; those within a value by both names, as newer versions write them."""
    found: dict[str, Any] = {}
    for item in items:
        name, value = item.key or "/".join(item.nested_key), json.loads(item.value_json)
        found[name] = value
        if isinstance(value, dict):
            found |= {f"{name}/{inner}": part for inner, part in value.items()}
    return found
