"""The paper's grid and protocol, and data sets in memory."""

import importlib
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_nndyn import models
from lightning_nndyn.corpus import PRESETS, get_preset, load_data, load_digits_data, run_corpus
from lightning_nndyn.corpus.presets.paper import GridPreset
from lightning_nndyn.corpus.training.batches import BatchLoader
from lightning_nndyn.corpus.training.data import ImageData
from lightning_nndyn.corpus.training.network import build_network
from lightning_nndyn.errors import CorpusError, MissingExtraError


def test_the_grid_is_the_papers() -> None:
    preset = get_preset("lenet5-cifar10")
    assert len(preset) == 480
    assert preset.learning_rates[:3] == (1e-6, 1.5e-6, 2e-6) and preset.learning_rates[-1] == 0.45
    assert preset.dropouts == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert (preset.momentum, preset.batch_size, preset.epochs, preset.patience) == (0.9, 128, 50, 10)
    assert len(preset.departures()) == 1  # trains on beyond patience


def test_every_preset_names_a_network() -> None:
    grids = [preset for preset in PRESETS.values() if isinstance(preset, GridPreset)]
    assert len(grids) == 10 and all(hasattr(models, preset.network) for preset in grids)


def test_runs_have_different_configurations_and_seeds() -> None:
    configs = [get_preset("lenet5-digits").config(index) for index in range(480)]
    assert len({(config.learning_rate, config.dropout) for config in configs}) == 480
    assert len({config.seed for config in configs}) == 480
    other = get_preset("lenet5-digits").scaled(seed=1)
    assert other.config(0).seed not in {config.seed for config in configs}


def test_a_part_of_the_order_represents_the_grid() -> None:
    preset = get_preset("lenet5-digits")
    order = [index for index, _ in preset.order()]
    assert sorted(order) == list(range(480)) and preset.order() == preset.order()
    decades = Counter(round(np.floor(np.log10(preset.config(index).learning_rate))) for index in order[:120])
    assert len(decades) == 6 and min(decades.values()) >= 8


def test_departures_name_what_was_scaled() -> None:
    preset = get_preset("lenet5-cifar10").scaled(images=20000, epochs=25, precision="bf16")
    told = " | ".join(preset.departures())
    for part in ("epochs 25 instead of 50", "at most 20000 training and 5000 test", "precision bf16"):
        assert part in told


def test_initial_weights_are_scaled_and_told() -> None:
    given, data = get_preset("lenet5-digits"), load_digits_data()
    scaled = given.scaled(init_scale=3.0)
    networks = []
    for preset in (given, scaled):
        torch.manual_seed(0)
        networks.append(build_network(preset.config(5), data))
    for (name, plain), (_, large) in zip(*(network.named_parameters() for network in networks), strict=True):
        assert torch.equal(large, 3 * plain if name.endswith("weight") else plain)
    assert "initial weights 3 times torch's" in scaled.departures()
    assert not any("initial weights" in text for text in given.departures())
    with pytest.raises(CorpusError, match=r"init_scale=0"):
        given.scaled(init_scale=0)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"images": -1}, {"precision": "int3"}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(CorpusError, match=next(iter(wrong))):
        get_preset("lenet5-digits").scaled(**wrong)


def test_most_runs_come_from_the_band_if_asked_for() -> None:
    preset = get_preset("lenet5-cifar10")
    order = preset.order(band_share=0.7)
    assert sorted(index for index, _ in order) == list(range(480))
    for count in (10, 50, 250):
        configs = [preset.config(index, sampling) for index, sampling in order[:count]]
        banded = [config for config in configs if config.sampling == "band"]
        assert len(banded) == 0.7 * count
        assert all(5e-4 <= config.learning_rate <= 0.2 for config in banded)
    assert {sampling for _, sampling in preset.order()} == {"grid"}
    with pytest.raises(CorpusError, match=r"band_share=1\.5"):
        preset.order(band_share=1.5)


def test_the_zoo_draws_most_runs_from_the_band_and_can_grow() -> None:
    zoo = get_preset("zoo")
    order = zoo.order(band_share=0.7)
    for count in (10, 50, 400):
        configs = [zoo.config(index, sampling) for index, sampling in order[:count]]
        assert sum(config.sampling == "band" for config in configs) == pytest.approx(0.7 * count, abs=1)
    assert {config.dataset for config in configs} == set(zoo.datasets)
    assert len({config.seed for config in configs}) == len(configs)
    assert {config.optimizer for config in configs} == {"sgd", "adam", "adamw"}
    longer = replace(zoo, planned=2 * len(zoo))
    assert [longer.config(*pair) for pair in longer.order(0.7)[:400]] == configs
    assert {sampling for _, sampling in zoo.order()} == {"grid"}


def test_the_zoo_is_scaled_but_for_its_digits() -> None:
    zoo = get_preset("zoo").scaled(images=1000, epochs=3, size=16, precision="bf16", test_images=500)
    configs = [zoo.config(index, "band") for index in range(60)]
    assert max(config.images for config in configs) == 1000
    assert {config.size for config in configs if config.dataset == "digits"} == {None}
    assert {config.size for config in configs if config.dataset != "digits"} == {16}
    assert {(config.epochs, config.test_images, config.precision) for config in configs} == {(3, 500, "bf16")}
    told = " | ".join(zoo.departures())
    for part in ("drawn at random", "epochs 3 instead of 50", "resized to 16x16", "hundred ImageNet classes"):
        assert part in told


def test_a_setting_that_a_preset_lacks_is_refused() -> None:
    with pytest.raises(CorpusError, match="'zoo' has no setting 'dropouts'"):
        get_preset("zoo").scaled(dropouts=(0.5,))


@pytest.mark.parametrize("wrong", [{"optimizer": "lamb"}, {"precision": "int3"}])
def test_a_run_that_nobody_can_train_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(CorpusError, match=next(iter(wrong))):
        replace(get_preset("zoo").config(0), **wrong)


def test_several_data_sets_need_several_folders(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cifar10=FOLDER, imagenet100=FOLDER"):
        run_corpus("zoo", tmp_path, data="images", progress=False)
    with pytest.raises(CorpusError, match=r"'mnist'.*digits, cifar10, imagenet100"):
        run_corpus("zoo", tmp_path, data={"mnist": "images"}, progress=False)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(CorpusError, match="lenet5-digits"):
        get_preset("lenet6")


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


def _loader(flip: bool, padding: int) -> tuple[BatchLoader, ImageData]:
    """A loader over images whose every pixel is unlike all others within its image."""
    images = torch.arange(1, 2 * 6 * 5 + 1, dtype=torch.uint8).view(1, 2, 6, 5).repeat(40, 1, 1, 1)
    images[:, 0, 0, 0] = torch.arange(100, 140, dtype=torch.uint8)
    labels = torch.arange(40)
    data = ImageData(images, labels, images, labels, tuple("ab"))
    config = replace(get_preset("lenet5-cifar10").config(0), batch_size=16, crop_padding=padding, flip=flip)
    return BatchLoader(config, data), data


def test_batches_cover_an_epoch_in_another_order_each_time() -> None:
    loader, data = _loader(flip=False, padding=0)
    first, second = ([pair for pair in loader] for _ in range(2))
    assert len(first) == len(loader) == 3
    labels = [torch.cat([label for _, label in epoch]) for epoch in (first, second)]
    assert all(sorted(label.tolist()) == list(range(40)) for label in labels)
    assert not torch.equal(*labels)
    for images, label in first:
        assert torch.equal(images, data.normalise(data.train_images[label]))


def test_every_crop_is_a_shifted_image_and_half_are_mirrored() -> None:
    loader, data = _loader(flip=True, padding=2)
    padded = torch.nn.functional.pad(data.train_images, (2, 2, 2, 2))
    kinds: Counter[tuple[int, int, bool]] = Counter()
    for _ in range(5):
        for images, labels in loader:
            for image, label in zip(images, labels, strict=True):
                found = [
                    (row, column, mirrored)
                    for row in range(5)
                    for column in range(5)
                    for mirrored in (False, True)
                    if torch.equal(image, _crop(data, padded[label], row, column, mirrored))
                ]
                assert len(found) == 1
                kinds.update(found)
    assert {row for row, _, _ in kinds} == {column for _, column, _ in kinds} == set(range(5))
    assert 60 < sum(count for kind, count in kinds.items() if kind[2]) < 140


def _crop(data: ImageData, padded: torch.Tensor, row: int, column: int, mirrored: bool) -> torch.Tensor:
    crop = padded[:, row : row + 6, column : column + 5]
    return data.normalise(crop.flip(2) if mirrored else crop)


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
