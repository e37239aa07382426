"""Runs `nndyn` several times, each in a forked process of its own: to import all it needs takes longer.

Usage: python forked_command.py TIMES ARGUMENT...
"""

from __future__ import annotations

import os
import sys
import traceback

import optuna  # noqa: F401

import lightning_nndyn.callback  # noqa: F401
from lightning_nndyn.cli import main


def run_once(arguments: list[str]) -> int:
    """The exit code of the command, or minus the signal that has ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.argv, code = ["nndyn", *arguments], 1
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        print(f"exit {run_once(sys.argv[2:])}", flush=True)
