"""Loads the data sets of a corpus, from the user's folders or from scikit-learn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_nndyn.corpus.presets.base import Preset
from lightning_nndyn.corpus.training.arrays import RunData
from lightning_nndyn.corpus.training.data import load_data
from lightning_nndyn.corpus.training.run_data import ARRAYS, array_data
from lightning_nndyn.errors import CorpusError

DataFolders = Path | str | Mapping[str, Path | str] | None


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
