"""What optional packages and programs are there for tests that need them."""

from __future__ import annotations

import glob
import importlib
import shutil

_OTHER_NAMES = {"chromium": ("chromium-browser", "google-chrome")}


def find_program(name: str) -> str | None:
    """Where a program is; Debian keeps those of a PostgreSQL server off the path."""
    on_path = next(filter(None, map(shutil.which, (name, *_OTHER_NAMES.get(name, ())))), None)
    return on_path or max(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), default=None)


def why_missing(module: str) -> str | None:
    """Why a module cannot be imported, or a ``program:NAME`` not be run; None where it can be.

    A package may be there and still fail: torchvision built for another torch raises RuntimeError.
    """
    if module.startswith("program:"):
        name = module.removeprefix("program:")
        return None if find_program(name) else f"there is no program {name} (make test-programs installs it)"
    try:
        importlib.import_module(module)
    except Exception as error:
        return f"{module} cannot be imported ({type(error).__name__}: {error})"
    return None
