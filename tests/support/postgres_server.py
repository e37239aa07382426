"""A PostgreSQL server for tests: Debian's, on a free port, gone with the test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import PATIENCE, wait_until
from requirements import find_program


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a new, empty database."""
    # Not in pytest's folder, which nobody else may enter: the server refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="nndyn-postgres-"))
    user = _user()
    if user:
        shutil.chown(folder, user["user"], user["group"])
    data, port = folder / "data", free_port()
    try:
        make = [
            find_program("initdb"),
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        subprocess.run(make, check=True, capture_output=True, cwd=folder, **user)
        options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
        with (folder / "log").open("w") as log:
            serve = [find_program("postgres"), "-D", data, *options]
            server = subprocess.Popen(serve, stdout=log, stderr=log, cwd=folder, **user)
        try:
            _wait(server, port, folder / "log")
            yield f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # SIGTERM would wait for those who are connected
            server.wait(timeout=PATIENCE)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> dict[str, Any]:
    if os.geteuid():
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres", names["nobody"])
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    try:
        wait_until(lambda: _answers(port), server)
    except AssertionError as error:
        raise AssertionError(log.read_text()) from error


def _answers(port: int) -> bool:
    import psycopg2

    try:
        psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True
