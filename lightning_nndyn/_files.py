"""Files: atomic writes, locks between processes, and reading what may be damaged or made to do harm."""

from __future__ import annotations

import json
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from filelock import FileLock, Timeout

T = TypeVar("T")

TEMPORARY = ".tmp-"
"""Prefix of temporary files. A killed process leaves them behind; they are never read."""

LARGEST_FILE = 2**30
"""Bytes of the largest file that is read whole."""

_RETRY_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)

RunName = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{12}\Z")]
"""A run's name as this package makes it. It is a part of file names: nothing else is accepted from a file."""

Finite = Annotated[float, msgspec.Meta(ge=-1.7976931348623157e308, le=1.7976931348623157e308)]
"""Neither NaN nor infinite."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""A number of things, which is a float's, too."""

Number = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)] | Finite
"""An integer stays one."""


# -- writing -------------------------------------------------------------------------------------------------


def write_atomically(path: Path, content: bytes, *, keep_existing: bool = False) -> None:
    """Writes a temporary file beside the path, syncs it to disk and renames it.

    So a reader sees the old file or the new one, never a part. A missing folder is created.

    Args:
        path: path of the file.
        content: its content.
        keep_existing: whether to keep a file that exists when the new one is complete.

    Raises:
        OSError: if the disk is full or the folder cannot be written; an old file is unchanged then.
    """
    with whole_file(path, keep_existing=keep_existing) as part, part.open("xb") as file:
        file.write(content)


@contextmanager
def whole_file(path: Path, *, keep_existing: bool = False) -> Iterator[Path]:
    """The path of a temporary file; what has been written there is synced to disk and renamed at the end.

    Args:
        path: that it is renamed to. A missing folder is created.
        keep_existing: whether to keep a file that exists when the new one is complete.

    Raises:
        OSError: see `write_atomically`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name is random: processes of other machines may write here, too.
    part = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        if not (keep_existing and path.exists()):
            _replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _replace(part: Path, path: Path) -> None:
    """Renames. On Windows that fails as long as somebody reads the old file, which takes a moment."""
    for seconds in _RETRY_SECONDS:
        try:
            part.replace(path)
            return
        except PermissionError:
            time.sleep(seconds)
    part.replace(path)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Locks an empty file without waiting, and yields whether this process may go on.

    It may not if another process holds the lock. The system releases the lock of a process that dies. On a
    file system without locks every process may go on.

    Args:
        path: path of the lock file, which is created and may be left behind; so is a missing folder.
    """
    lock, free = FileLock(path), True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        free = False
    except (OSError, NotImplementedError):
        pass
    try:
        yield free
    finally:
        lock.release()


# -- reading -------------------------------------------------------------------------------------------------


def real_path(path: Path) -> Path:
    """The path without symbolic links. A circle of them ends in itself, where `Path.resolve` raises."""
    return Path(os.path.realpath(path))


def read_bytes(path: Path, largest: int = LARGEST_FILE) -> bytes:
    """Reads a whole file.

    Raises:
        OSError: if it cannot be read, is larger than `largest` bytes, or is no regular file: reading a pipe
            or a device may never end.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise OSError("it is no regular file")
        if about.st_size > largest:
            raise OSError(f"it has {about.st_size:,} bytes, more than {largest:,}")
        return file.read()


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe waits for somebody who writes


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        OSError: see `read_bytes`.
        ValueError: it is not JSON, or nested too deeply.
    """
    return parse_json(read_bytes(path))


def parse_json(content: str | bytes) -> Any:
    """The value of a JSON text, in which numbers may be NaN.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def decode(content: Any, kind: type[T]) -> T:
    """Plain values from a file as a dataclass or Struct whose annotations they fit. Unknown keys are ignored.

    This is the only place where the types of what a file holds are checked.

    Raises:
        ValueError: a value is missing or unfit; the message says where.
    """
    try:
        return msgspec.convert(content, kind)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def shipped_folder(name: str) -> Path:
    """A folder that ships with the package: in a wheel it is inside of it, in the repository beside it."""
    package = Path(__file__).parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
