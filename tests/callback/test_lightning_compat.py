"""`lightning` and `pytorch_lightning`: both, or one of them, or neither."""

from __future__ import annotations

import subprocess
import sys

import pytest
from paths import SUPPORT
from processes import PATIENCE


@pytest.mark.parametrize("missing", ["lightning", "pytorch_lightning"])
def test_one_of_the_two_packages_is_enough(missing: str) -> None:
    script = f"""
import sys
sys.modules[{missing!r}] = None  # an import of it raises ImportError
sys.path.insert(0, {str(SUPPORT)!r})
from importlib import import_module
pl = import_module({"pytorch_lightning" if missing == "lightning" else "lightning.pytorch"!r})
from digits_runs import DOOMED, module_class
from lightning_nndyn import GraphDynamicsCallback
assert [base for base in GraphDynamicsCallback.__mro__ if base.__name__ == "Callback"] == [pl.Callback]
callback = GraphDynamicsCallback(None, strict=True)
pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=callback, logger=False, enable_checkpointing=False,
           enable_progress_bar=False, enable_model_summary=False).fit(module_class(pl)(DOOMED))
assert len(callback.history) == 6, callback.history
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=PATIENCE)


def test_importing_us_redirects_nobodys_messages() -> None:
    script = """
import pytorch_lightning, logging
from lightning_utilities.core import rank_zero
before = rank_zero.log
from lightning_nndyn import GraphDynamicsCallback
import lightning.pytorch
assert rank_zero.log is before and before.name.startswith("pytorch_lightning"), rank_zero.log
found = [base for base in GraphDynamicsCallback.__mro__ if base.__name__ == "Callback"]
assert found == [pytorch_lightning.Callback, lightning.pytorch.Callback]
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=PATIENCE)


def test_without_lightning_the_import_says_what_to_install() -> None:
    script = """
import sys
sys.modules["lightning"] = sys.modules["pytorch_lightning"] = None
try:
    from lightning_nndyn import GraphDynamicsCallback
except ImportError as error:
    assert "pip install lightning" in str(error), error
else:
    raise AssertionError("imported without Lightning")
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=PATIENCE)
