"""One thread, one seed, and what to do where an optional package is missing."""

import importlib
import os
import random

import numpy as np
import pytest
import torch

# The networks here are small: a second thread costs more than it brings, and sums in another order.
torch.set_num_threads(1)


def why_missing(module: str) -> str | None:
    """Why a module cannot be imported; None where it can be.

    A package may be there and still fail: torchvision built for another torch raises RuntimeError.
    """
    try:
        importlib.import_module(module)
    except Exception as error:
        return f"{module} cannot be imported ({type(error).__name__}: {error})"
    return None


def pytest_configure(config: pytest.Config) -> None:
    """Fail rather than skip where a package in NNDYN_TEST_REQUIRES (comma-separated) is missing."""
    required = [name for name in os.environ.get("NNDYN_TEST_REQUIRES", "").split(",") if name]
    missing = [reason for reason in map(why_missing, required) if reason]
    if missing:
        raise pytest.UsageError("NNDYN_TEST_REQUIRES: " + "; ".join(missing))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the markers `needs` and `cuda` say cannot run here."""
    modules = [name for marker in item.iter_markers("needs") for name in marker.args]
    for reason in map(why_missing, modules):
        if reason:
            pytest.skip(reason)
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, whichever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
