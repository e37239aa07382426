"""Runs draw from a random state of their own, and leave the caller's as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch draw on the CPU from this seed, and afterwards go on from where it was.

    `torch.manual_seed` would seed all CUDA devices, too, whose state is not kept here: no run draws on one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
