"""Sequences of tokens made on the spot, each task a rule that a network can learn; the same from a seed."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_Random = np.random.Generator


class SequenceSizes(NamedTuple):
    """How large the inputs of a task are.

    Attributes:
        length: Tokens in a sequence; some tasks need an even number.
        symbols: Number of different tokens, unless the task fixes it.
        classes: Number of classes of "languages"; the other tasks fix it.
    """

    length: int = 12
    symbols: int = 5
    classes: int = 4


class Sequences(NamedTuple):
    """Tokens [n, length], labels [n], and the numbers of different tokens and labels."""

    tokens: np.ndarray
    labels: np.ndarray
    vocabulary: int
    classes: int


def make_sequences(task: str, count: int, sizes: SequenceSizes, seed: int) -> Sequences:
    """`count` sequences of one of `SEQUENCE_TASKS`, the same for the same arguments."""
    return SEQUENCE_TASKS[task](np.random.default_rng(seed), count, sizes)


def _parity(random: _Random, count: int, sizes: SequenceSizes) -> Sequences:
    """Whether the number of ones is odd."""
    tokens = random.integers(2, size=(count, sizes.length))
    return Sequences(tokens, tokens.sum(1) % 2, 2, 2)


def _majority(random: _Random, count: int, sizes: SequenceSizes) -> Sequences:
    """Which token is the most frequent; the first of equals."""
    tokens = random.integers(sizes.symbols, size=(count, sizes.length))
    counts = (tokens[:, :, None] == np.arange(sizes.symbols)).sum(1)
    return Sequences(tokens, counts.argmax(1), sizes.symbols, sizes.symbols)


def _modular_sum(random: _Random, count: int, sizes: SequenceSizes) -> Sequences:
    """The sum of all tokens, modulo their number."""
    tokens = random.integers(sizes.symbols, size=(count, sizes.length))
    return Sequences(tokens, tokens.sum(1) % sizes.symbols, sizes.symbols, sizes.symbols)


def _first_token(random: _Random, count: int, sizes: SequenceSizes) -> Sequences:
    """The first token."""
    tokens = random.integers(sizes.symbols, size=(count, sizes.length))
    return Sequences(tokens, tokens[:, 0], sizes.symbols, sizes.symbols)


def _repetition(random: _Random, count: int, sizes: SequenceSizes) -> Sequences:
    """Whether the second half repeats the first, or differs from it in one token."""
    half = sizes.length // 2
    first = random.integers(sizes.symbols, size=(count, half))
    labels, second = random.integers(2, size=count), first.copy()
    rows, positions = np.flatnonzero(labels == 0), random.integers(half, size=count)
    shift = random.integers(1, sizes.symbols, size=count)
    second[rows, positions[rows]] = (second[rows, positions[rows]] + shift[rows]) % sizes.symbols
    return Sequences(np.concatenate([first, second], 1), labels, sizes.symbols, 2)


def _brackets(random: _Random, count: int, sizes: SequenceSizes) -> Sequences:
    """Whether brackets match, or two of them were exchanged so that they do not."""
    tokens = np.stack([_matched(random, sizes.length // 2) for _ in range(count)])
    labels = random.integers(2, size=count)
    for row in np.flatnonzero(labels == 0):
        while _matches(tokens[row]):
            tokens[row] = random.permutation(tokens[row])
    return Sequences(tokens, labels, 2, 2)


def _matched(random: _Random, pairs: int) -> np.ndarray:
    """A sequence of opening (0) and closing (1) brackets that match, drawn from left to right."""
    opened, closed, tokens = 0, 0, []
    while closed < pairs:
        closes = opened == pairs or (opened > closed and random.random() < 0.5)
        tokens.append(int(closes))
        opened, closed = opened + (not closes), closed + closes
    return np.array(tokens)


def _matches(tokens: np.ndarray) -> bool:
    return bool((np.cumsum(1 - 2 * tokens) >= 0).all())


def _lookup(random: _Random, count: int, sizes: SequenceSizes) -> Sequences:
    """Pairs of key and value, then one of the keys: its value."""
    pairs, symbols = sizes.length // 2, sizes.symbols
    keys = random.random((count, max(symbols, pairs))).argsort(1)[:, :pairs]
    values = random.integers(symbols, size=(count, pairs))
    asked = random.integers(pairs, size=count)
    rows = np.arange(count)
    mixed = np.stack([keys + symbols, values], 2).reshape(count, -1)
    tokens = np.concatenate([mixed, keys[rows, asked][:, None] + symbols], 1)
    return Sequences(tokens, values[rows, asked], symbols + max(symbols, pairs), symbols)


def _languages(random: _Random, count: int, sizes: SequenceSizes) -> Sequences:
    """Which of several random Markov chains over the symbols wrote the sequence."""
    steps = random.dirichlet(np.full(sizes.symbols, 0.5), size=(sizes.classes, sizes.symbols)).cumsum(2)
    labels = random.integers(sizes.classes, size=count)
    tokens = np.empty((count, sizes.length), dtype=np.int64)
    tokens[:, 0] = random.integers(sizes.symbols, size=count)
    for step in range(1, sizes.length):
        drawn = random.random(count)[:, None] > steps[labels, tokens[:, step - 1]]
        tokens[:, step] = np.minimum(drawn.sum(1), sizes.symbols - 1)
    return Sequences(tokens, labels, sizes.symbols, sizes.classes)


SEQUENCE_TASKS: dict[str, Callable[[_Random, int, SequenceSizes], Sequences]] = {
    "parity": _parity,
    "majority": _majority,
    "modular_sum": _modular_sum,
    "first_token": _first_token,
    "repetition": _repetition,
    "brackets": _brackets,
    "lookup": _lookup,
    "languages": _languages,
}
"""The sequence tasks by name."""
