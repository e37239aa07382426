"""Tables, sequences and parts of images."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_nndyn.corpus import get_preset, load_digits_data, run_corpus
from lightning_nndyn.corpus.training.arrays import ArrayLoader
from lightning_nndyn.corpus.training.run_data import ARRAYS, array_data, part_of_images
from lightning_nndyn.corpus.training.sequences import SEQUENCE_TASKS, SequenceSizes, make_sequences
from lightning_nndyn.errors import CorpusError

# Data


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_made_alike_each_time(name: str) -> None:
    data, again = array_data(name), array_data(name)
    assert data.fingerprint() == again.fingerprint()
    for inputs, labels in ((data.train_inputs, data.train_labels), (data.test_inputs, data.test_labels)):
        assert len(inputs) == len(labels) > 50 and inputs.dim() == 2
        assert set(labels.tolist()) == set(range(len(data.classes)))
        assert inputs.isfinite().all() if not data.vocabulary else inputs.max() < data.vocabulary


def test_made_data_follow_their_options_and_their_seed() -> None:
    options = {"seed": 3, "samples": 200, "symbols": 4, "classes": 3, "length": 10}
    data = array_data("languages", options)
    assert data.train_inputs.shape == (200, 10) and len(data.classes) == 3 and data.vocabulary == 4
    assert data.fingerprint() != array_data("languages", options | {"seed": 4}).fingerprint()
    table = array_data("blobs", {"seed": 3, "samples": 200, "features": 30, "classes": 5, "noise": 0.1})
    assert table.shape == (30,) and len(table.classes) == 5
    assert table.train_inputs.mean(0).abs().max() < 1e-5


def _rule(task: str, tokens: list[int], symbols: int) -> int:
    """What the labels say, once more and slowly."""
    half = len(tokens) // 2
    if task == "brackets":
        heights = np.cumsum([1 if token == 0 else -1 for token in tokens])
        return int(heights.min() >= 0 and heights[-1] == 0)
    if task == "lookup":
        pairs = {tokens[2 * place]: tokens[2 * place + 1] for place in range(half)}
        return pairs[tokens[-1]]
    rules = {
        "parity": sum(tokens) % 2,
        "majority": max(range(symbols), key=tokens.count),
        "modular_sum": sum(tokens) % symbols,
        "first_token": tokens[0],
        "repetition": int(tokens[:half] == tokens[half:]),
    }
    return rules[task]


@pytest.mark.parametrize("task", sorted(set(SEQUENCE_TASKS) - {"languages"}))
def test_labels_of_sequences_keep_their_rule(task: str) -> None:
    made = make_sequences(task, 300, SequenceSizes(length=8, symbols=5), 7)
    expected = [_rule(task, tokens.tolist(), 5) for tokens in made.tokens]
    assert made.labels.tolist() == expected
    assert Counter(expected).most_common(1)[0][1] < 0.6 * 300


def test_a_part_of_images_has_some_classes_at_fewer_pixels() -> None:
    digits = load_digits_data()
    part = part_of_images(digits, 60, 30, classes=[7, 2, 4], pixels=4, seed=1)
    assert part.shape == (1, 4, 4) and part.classes == ("7", "2", "4")
    assert torch.bincount(part.train_labels).tolist() == [20] * 3
    assert torch.bincount(part.test_labels).tolist() == [10] * 3
    other = part_of_images(digits, 60, 30, classes=[7, 2, 4], pixels=4, seed=2)
    assert not torch.equal(part.train_images, other.train_images)
    assert torch.equal(part.test_images, other.test_images)  # all runs are tested on the same
    whole = part_of_images(digits, None, None, classes=[7, 2, 4])
    sevens = digits.train_images[digits.train_labels == 7]
    assert torch.equal(whole.train_images[whole.train_labels == 0], sevens)


def test_batches_of_arrays_cover_an_epoch_in_another_order_each_time() -> None:
    data = array_data("parity", {"samples": 100}).subset(90, None)
    loader = ArrayLoader(replace(get_preset("sweeps").config(0), batch_size=40), data)
    first, second = (list(loader) for _ in range(2))
    assert len(loader) == 3 and [len(labels) for _, labels in first] == [40, 40, 10]
    seen = [torch.cat([inputs for inputs, _ in epoch]) for epoch in (first, second)]
    assert not torch.equal(*seen) and torch.equal(*(torch.unique(one, dim=0) for one in seen))


def test_several_data_sets_need_several_folders(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cifar10=FOLDER, imagenet100=FOLDER"):
        run_corpus("zoo", tmp_path, data="images", progress=False)
    with pytest.raises(CorpusError, match=r"'mnist'.*digits, cifar10, imagenet100"):
        run_corpus("zoo", tmp_path, data={"mnist": "images"}, progress=False)
