"""Data sets of tables (rows of numbers) and of token sequences, in a training and a test split."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.training.data import ImageData

_PARTS = ("train_inputs", "train_labels", "test_inputs", "test_labels")


@dataclass(frozen=True)
class ArrayData:
    """Tables as float32 [n, features] or sequences of tokens as int64 [n, length], and labels as int64 [n].

    `vocabulary` is the number of different tokens, 0 for a table.
    """

    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    vocabulary: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input: its features, or its tokens."""
        return tuple(self.train_inputs.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where the inputs are."""
        return self.train_inputs.device

    def to(self, device: torch.device) -> "ArrayData":
        """The same data on a device."""
        return replace(self, **{part: getattr(self, part).to(device) for part in _PARTS})

    def normalise(self, inputs: Tensor) -> Tensor:
        """The inputs as they are: tables are normalised when they are made."""
        return inputs

    def subset(self, count: int | None, test_count: int | None) -> "ArrayData":
        """The first inputs of each split, which are in random order; None for all."""
        return replace(
            self,
            train_inputs=self.train_inputs[:count],
            train_labels=self.train_labels[:count],
            test_inputs=self.test_inputs[:test_count],
            test_labels=self.test_labels[:test_count],
        )

    def fingerprint(self) -> str:
        """A digest of all inputs and labels; equal digests mean equal data."""
        digest = hashlib.sha256(json.dumps([self.classes, self.vocabulary]).encode())
        for part in _PARTS:
            digest.update(getattr(self, part).contiguous().numpy())
        return digest.hexdigest()[:16]


RunData: TypeAlias = ImageData | ArrayData
"""What a run can be trained on."""


def test_inputs(data: RunData) -> Tensor:
    """The inputs of the test split, before `normalise`."""
    return data.test_images if isinstance(data, ImageData) else data.test_inputs


def input_arguments(data: RunData) -> dict[str, int]:
    """The sizes of the inputs, as keyword arguments of a network's function."""
    if isinstance(data, ImageData):
        channels, size, _ = data.shape
        return {"in_channels": channels, "image_size": size}
    if data.vocabulary:
        return {"vocabulary": data.vocabulary, "length": data.shape[0]}
    return {"features": data.shape[0]}


class ArrayLoader:
    """The batches of one epoch after the other, each epoch in a new order from the run's own generator."""

    def __init__(self, config: RunConfig, data: ArrayData) -> None:
        """Seed the generator; nothing is drawn yet."""
        self.batch_size, self.data = config.batch_size, data
        self.random = torch.Generator().manual_seed(config.seed + 1)

    def __len__(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-len(self.data.train_labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of inputs and labels."""
        order = torch.randperm(len(self.data.train_labels), generator=self.random)
        for batch in order.to(self.data.device).split(self.batch_size):
            yield self.data.train_inputs[batch], self.data.train_labels[batch]
