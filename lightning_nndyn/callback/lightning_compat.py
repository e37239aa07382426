"""The two namespaces of Lightning, `lightning.pytorch` and `pytorch_lightning`, as one.

They are copies of the same code with two `Callback` classes: a Trainer accepts, and a LightningCLI offers,
only callbacks of its own. Ours derives from every copy that is installed, so that it belongs to each Trainer,
whichever package was imported first.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Callback as CallbackBase

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def _callback_classes() -> tuple[type, ...]:
    """The `Callback` class of each installed copy, the one that is already in use first."""
    found: list[type] = []
    errors = []
    output: dict[str, object] = {}
    for package in sorted(_PACKAGES, key=lambda name: name not in sys.modules):
        try:
            found.append(import_module(package).Callback)
        except Exception as error:  # a copy may be missing, or broken: the other one is enough
            errors.append(f"{package}: {type(error).__name__}: {error}")
            continue
        output = output or _output()
    if not found:
        raise ImportError(
            f"lightning-nndyn needs Lightning, and neither copy of it can be imported "
            f"({'; '.join(errors)}): pip install lightning"
        )
    # The copy that is imported last redirects the messages of both. The user's choice is the first.
    vars(sys.modules["lightning_utilities.core.rank_zero"]).update(output)
    return tuple(found)


def _output() -> dict[str, object]:
    """What a copy of Lightning sets in the module that both share: a logger and a warning category."""
    shared = vars(sys.modules["lightning_utilities.core.rank_zero"])
    return {name: shared[name] for name in ("log", "rank_zero_deprecation_category") if name in shared}


if not TYPE_CHECKING:
    CallbackBase = type("CallbackBase", _callback_classes(), {"__doc__": "Base of callbacks of any Trainer."})

__all__ = ["CallbackBase"]
