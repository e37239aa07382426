"""Image data sets in memory: split, drawn, decoded, refused."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_corpus import run

from lightning_nndyn.corpus import load_data, load_digits_data
from lightning_nndyn.corpus.training import data as images
from lightning_nndyn.errors import CorpusError, MissingExtraError


def test_digits_split_is_fixed_and_stratified() -> None:
    data, again = load_digits_data(), load_digits_data()
    assert data.train_images.shape == (1437, 1, 8, 8) and data.test_images.shape == (360, 1, 8, 8)
    assert data.fingerprint() == again.fingerprint()
    assert torch.bincount(data.test_labels).min() >= 34
    normal = data.normalise(data.train_images)
    assert normal.min() == -1 and normal.max() == 1


def test_a_subset_is_balanced_and_always_the_same() -> None:
    data = load_digits_data()
    part = data.subset(100, 50)
    assert torch.bincount(part.train_labels).tolist() == [10] * 10
    assert torch.bincount(part.test_labels).tolist() == [5] * 10
    assert part.fingerprint() == data.subset(100, 50).fingerprint()
    assert data.subset(None, 10**6).fingerprint() == data.fingerprint()


def test_missing_data_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="train/CLASS"):
        load_data("cifar10", None, tmp_path / "cache")
    with pytest.raises(CorpusError, match="nowhere"):
        load_data("imagefolder", tmp_path / "nowhere", tmp_path / "cache")
    with pytest.raises(CorpusError, match="mnist"):
        load_data("mnist", tmp_path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.needs("PIL")
def test_without_torchvision_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    _write_folder(tmp_path)
    with pytest.raises(MissingExtraError, match=r"lightning-nndyn\[vision\]"):
        load_data("imagefolder", tmp_path, tmp_path / "cache")


def _write_folder(root: Path, size: int = 8) -> None:
    image = importlib.import_module("PIL.Image")
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(256, size=(size, size, 3), dtype=np.uint8)
                image.fromarray(pixels).save(root / split / name / f"{number}.png")


@pytest.mark.needs("torchvision")
def test_image_folders_are_decoded_once(tmp_path: Path) -> None:
    pil = importlib.import_module("PIL.Image")
    root, cache = tmp_path / "images", tmp_path / "cache"
    _write_folder(root)
    data = load_data("imagefolder", root, cache)
    assert data.classes == ("cat", "dog") and data.shape == (3, 8, 8)
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1] and data.test_labels.tolist() == [0, 0, 1, 1]
    pixels = np.asarray(pil.open(root / "train" / "dog" / "1.png"))
    assert np.array_equal(data.train_images[4].permute(1, 2, 0).numpy(), pixels)
    assert load_data("imagefolder", None, cache).fingerprint() == data.fingerprint()
    assert load_data("imagefolder", root, cache, size=4).shape == (3, 4, 4)
    with pytest.raises(CorpusError, match="decoded from"):
        load_data("imagefolder", tmp_path / "others", cache)


@pytest.mark.needs("torchvision")
def test_broken_image_folders_are_clear_errors(tmp_path: Path) -> None:
    pil = importlib.import_module("PIL.Image")
    root, cache = tmp_path / "images", tmp_path / "cache"
    _write_folder(root)
    odd = root / "train" / "dog" / "9.png"
    pil.new("RGB", (9, 8)).save(odd)
    with pytest.raises(CorpusError, match="size=N"):
        load_data("imagefolder", root, cache)
    odd.write_bytes(b"no image")
    with pytest.raises(CorpusError, match=r"9\.png"):
        load_data("imagefolder", root, cache)
    odd.unlink()
    (root / "test" / "dog").rename(root / "test" / "wolf")
    with pytest.raises(CorpusError, match="wolf"):
        load_data("imagefolder", root, cache)
    (root / "test").rename(root / "elsewhere")
    with pytest.raises(CorpusError, match="'test'"):
        load_data("imagefolder", root, cache)
    assert not [file for file in cache.glob("*") if not file.name.startswith(".")]


@pytest.mark.needs("torchvision")
def test_torchvisions_cifar10_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    with pytest.raises(CorpusError, match="download=True"):
        load_data("cifar10", tmp_path, tmp_path / "cache")
    _write_cifar10(tmp_path / "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda *_: True)
    data = load_data("cifar10", tmp_path, tmp_path / "cache")
    assert data.train_images.shape == (20, 3, 32, 32) and data.test_images.shape == (4, 3, 32, 32)
    assert data.train_images[:, :, 0, 0].tolist()[5] == [5, 6, 7]
    assert data.classes[3] == "cat"


def _write_cifar10(folder: Path) -> None:
    """CIFAR-10's python version in miniature: four images a batch, channel k of image i filled with i + k."""
    import pickle

    folder.mkdir()
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        first = np.arange(4 * number, 4 * number + 4)[:, None, None] + np.arange(3)[None, :, None]
        pixels = np.broadcast_to(first, (4, 3, 1024)).reshape(4, 3072).astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [0, 1, 2, 3]}))


def test_images_half_decoded_are_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, young = tmp_path / "cache" / ".tmp-killed", tmp_path / "cache" / ".tmp-at-work"
    for left in (old, young):
        left.mkdir(parents=True)
        (left / "train_images.npy").write_bytes(b"half")
    os.utime(old, (0, 0))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, "save", interrupted)
        images._write_cache(tmp_path / "cache" / "cifar10", load_digits_data(), None)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {old.name, young.name}
    run(tmp_path, runs=1)
    assert young.exists() and not old.exists()
