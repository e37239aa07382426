"""The data of a corpus and of its runs: parts of image data sets, tables and sequences made to order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_nndyn.corpus.presets.base import Preset
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.training.arrays import ArrayData, RunData
from lightning_nndyn.corpus.training.data import ImageData, load_data
from lightning_nndyn.corpus.training.sequences import SEQUENCE_TASKS, SequenceSizes, make_sequences
from lightning_nndyn.corpus.training.tables import (
    CARRIED_TABLES,
    MADE_TABLES,
    TableSizes,
    carried_table,
    make_table,
)
from lightning_nndyn.errors import CorpusError

ARRAYS = (*CARRIED_TABLES, *MADE_TABLES, *SEQUENCE_TASKS)
"""Data sets other than images; none of them needs a file."""

DataFolders = Path | str | Mapping[str, Path | str] | None
"""Folder of the images; by the names of several data sets. None: nothing is read from one."""

_TEST = 1000  # inputs of made data
_TEST_SHARE = 0.3  # of carried tables
_SPLIT_SEED = 0


def data_of_run(config: RunConfig, data: RunData) -> RunData:
    """The training and test data of a run, out of its whole data set."""
    if isinstance(data, ImageData):
        return part_of_images(data, config.images, config.test_images, **config.data_options)
    return array_data(config.dataset, config.data_options).subset(config.images, config.test_images)


def part_of_images(
    data: ImageData,
    images: int | None,
    test_images: int | None,
    *,
    classes: Sequence[int] | None = None,
    pixels: int | None = None,
    seed: int | None = None,
) -> ImageData:
    """Some classes of a data set, at fewer pixels.

    Args:
        data: All of it.
        images: To train on at most, the classes in equal parts; None for all.
        test_images: Likewise, to test on.
        classes: Those that are kept, by number; None for all.
        pixels: Height and width, by averaging; None leaves the images as they are.
        seed: Draws which images are taken; None takes the same as `ImageData.subset`.
    """
    if classes is not None:
        data = _with_classes(data, classes)
    if seed is not None:
        data = _shuffled(data, seed)
    data = data.subset(images, test_images)
    if pixels is None or data.shape[1:] == (pixels, pixels):
        return data
    return replace(
        data,
        train_images=_shrunk(data.train_images, pixels),
        test_images=_shrunk(data.test_images, pixels),
    )


def _with_classes(data: ImageData, classes: Sequence[int]) -> ImageData:
    number = torch.full((len(data.classes),), -1)
    number[torch.tensor(classes)] = torch.arange(len(classes))
    train, test = number[data.train_labels], number[data.test_labels]
    return replace(
        data,
        train_images=data.train_images[train >= 0],
        train_labels=train[train >= 0],
        test_images=data.test_images[test >= 0],
        test_labels=test[test >= 0],
        classes=tuple(data.classes[one] for one in classes),
    )


def _shuffled(data: ImageData, seed: int) -> ImageData:
    random = torch.Generator().manual_seed(seed)
    train = torch.randperm(len(data.train_labels), generator=random)
    return replace(data, train_images=data.train_images[train], train_labels=data.train_labels[train])


def _shrunk(images: Tensor, pixels: int) -> Tensor:
    small: Tensor = F.interpolate(images.float(), size=(pixels, pixels), mode="area")
    return small.round().to(torch.uint8)


def array_data(name: str, options: Mapping[str, Any] | None = None) -> ArrayData:
    """A table or sequences.

    Args:
        name: One of `ARRAYS`.
        options: `seed`, `samples` (to train on) and the fields of `TableSizes` or `SequenceSizes`, of what is
            made; None for the defaults. What scikit-learn carries has none.
    """
    return _array_data(name, tuple(sorted((options or {}).items())))


@lru_cache(maxsize=2)
def _array_data(name: str, options: tuple[tuple[str, Any], ...]) -> ArrayData:
    chosen = dict(options)
    if name in CARRIED_TABLES:
        return _carried(name)
    seed, count = chosen.pop("seed", 0), chosen.pop("samples", 2000)
    if name in MADE_TABLES:
        features, labels = make_table(name, count + _TEST, TableSizes(**chosen), seed)
        return _table(features, labels, count)
    made = make_sequences(name, count + _TEST, SequenceSizes(**chosen), seed)
    tokens, targets = torch.from_numpy(made.tokens).long(), torch.from_numpy(made.labels).long()
    names = tuple(map(str, range(made.classes)))
    return ArrayData(tokens[:count], targets[:count], tokens[count:], targets[count:], names, made.vocabulary)


def _carried(name: str) -> ArrayData:
    from sklearn.model_selection import train_test_split

    features, labels = carried_table(name)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=_TEST_SHARE, random_state=_SPLIT_SEED, stratify=labels
    )
    order = np.concatenate([train, test])
    return _table(features[order], labels[order], len(train))


def _table(features: np.ndarray, labels: np.ndarray, count: int) -> ArrayData:
    """Columns with mean 0 and deviation 1 over the first `count` rows, which are trained on."""
    mean, deviation = features[:count].mean(0), features[:count].std(0)
    scaled = (features - mean) / np.where(deviation > 0, deviation, 1)
    inputs, targets = torch.from_numpy(scaled).float(), torch.from_numpy(labels).long()
    names = tuple(map(str, range(int(labels.max()) + 1)))
    return ArrayData(inputs[:count], targets[:count], inputs[count:], targets[count:], names)


def load_all(preset: Preset, data: DataFolders, cache: Path, download: bool) -> dict[str, Any]:
    """Load all data sets of a preset, decoding images into the cache; returns `describe` of each, by name."""
    roots = data_folders(preset.datasets, data)
    about = {}
    for dataset in preset.datasets:
        size = None if dataset == "digits" and len(preset.datasets) > 1 else preset.size
        about[dataset] = describe(load_source(dataset, roots.get(dataset), cache, size, download))
    return about


def load_source(
    dataset: str, root: Path | None, cache: Path, size: int | None = None, download: bool = False
) -> RunData:
    """A whole data set: images, see `load_data`, or a table or sequences, see `array_data`."""
    if dataset in ARRAYS:
        return array_data(dataset)
    return load_data(dataset, root, cache, size=size, download=download)


def data_folders(datasets: tuple[str, ...], data: DataFolders) -> dict[str, Path]:
    """The folders of the data sets, by name.

    Raises:
        CorpusError: A folder is given for a data set that is not trained on, or one for several data sets.
    """
    if data is None:
        return {}
    if isinstance(data, Mapping):
        unknown = sorted(set(data) - set(datasets))
        if unknown:
            raise CorpusError(f"no data set {unknown[0]!r} is trained on here: {', '.join(datasets)}")
        return {name: Path(folder) for name, folder in data.items()}
    if len(datasets) > 1:
        wanted = ", ".join(f"{name}=FOLDER" for name in datasets if name not in ("digits", *ARRAYS))
        raise CorpusError(f"data={str(data)!r} is one folder, several are needed: {wanted}")
    return {datasets[0]: Path(data)}


def describe(data: RunData) -> dict[str, Any]:
    """The facts about a data set that a manifest holds."""
    return {
        "fingerprint": data.fingerprint(),
        "train_images": len(data.train_labels),
        "test_images": len(data.test_labels),
        "classes": len(data.classes),
        "shape": list(data.shape),
    }
