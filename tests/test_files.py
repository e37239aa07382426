"""Writes appear whole or not at all; what is read may be anything."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from lightning_nndyn import _files
from lightning_nndyn._files import RunName, decode, parse_json, read_bytes, read_json, write_atomically
from lightning_nndyn.callback.record import Record


@pytest.mark.parametrize("refusals", [1, 4])
def test_a_file_that_somebody_reads_is_replaced_a_moment_later(
    tmp_path: Path, refusals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where an open file cannot be replaced."""
    replace, refused = Path.replace, []

    def busy(part: Path, target: Path) -> Path:
        if len(refused) < refusals:
            refused.append(target)
            raise PermissionError(13, "The process cannot access the file", str(target))
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", busy)
    monkeypatch.setattr(_files, "_RETRY_SECONDS", (0.0,) * 5)
    write_atomically(tmp_path / "a", b"old")
    write_atomically(tmp_path / "a", b"new")
    assert len(refused) == refusals and (tmp_path / "a").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_that_may_not_be_written_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(part: Path, target: Path) -> Path:
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(_files, "_RETRY_SECONDS", (0.0,))
    with pytest.raises(PermissionError, match="denied"):
        write_atomically(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == []


def test_only_files_that_end_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bytes(tmp_path / "file", largest=5) == b"12345"
    with pytest.raises(OSError, match="5 bytes, more than 4"):
        read_bytes(tmp_path / "file", largest=4)
    with pytest.raises(OSError):
        read_bytes(tmp_path)
    if sys.platform == "win32":
        return
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("pipe", "link", "zeros"):
        with pytest.raises(OSError, match="no regular file"):
            read_bytes(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 10**5, b"1" * 5000, b"\x00"])
def test_what_is_not_json_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError):
        read_json(tmp_path / "a.json")


def test_texts_are_utf_8_with_a_mark_or_without(tmp_path: Path) -> None:
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "a.json").write_bytes(mark + json.dumps("Übung", ensure_ascii=False).encode())
        assert read_json(tmp_path / "a.json") == "Übung"
    assert str(parse_json("NaN")) == "nan"


NO_NAMES: list[Any] = [
    "x/../../../../outside", "../0123456789ab", "/tmp/012345", "0123456789a", "0123456789abc", "0123456789aB",
    "0123456789ab\n", "0123456789a\0", "..\\..\\outside", "C:\\outside12", "CON", "nul", "", ".", "a" * 5000,
    "\u0660123456789ab", 123456789012, None, ["0123456789ab"], b"0123456789ab", True,
]  # fmt: skip


@pytest.mark.parametrize("name", NO_NAMES, ids=lambda name: repr(name)[:20])
def test_a_run_has_a_name_of_ours_or_none(name: Any) -> None:
    with pytest.raises(ValueError):
        decode(name, RunName)  # type: ignore[arg-type]
    state = Record().to_dict()
    assert Record.from_dict(state).run == state["run"]
    with pytest.raises(ValueError, match="run"):
        Record.from_dict({**state, "run": name})
