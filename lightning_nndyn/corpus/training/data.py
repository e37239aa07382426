"""Image data sets in memory: scikit-learn's digits, torchvision's CIFAR-10, folders of images."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_nndyn._files import read_json
from lightning_nndyn.errors import CorpusError, MissingExtraError

DATASETS = ("digits", "cifar10", "imagenet100", "imagefolder")
_SPLIT_SEED = 0
_PARTS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class ImageData:
    """Images as uint8 [n, channels, height, width] and labels as int64 [n], in a training and a test split.

    `max_value` is the pixel value of full brightness (255, or 16 for the digits).
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    max_value: int = 255

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.train_images.shape[1], self.train_images.shape[2], self.train_images.shape[3]

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.train_images.device

    def to(self, device: torch.device) -> "ImageData":
        """The same images on a device, still as uint8: a quarter of the memory of floats."""
        return replace(self, **{part: getattr(self, part).to(device) for part in _PARTS})

    def normalise(self, images: Tensor) -> Tensor:
        """Float images with 0..max_value mapped to -1..1: normalised by mean 0.5 and deviation 0.5."""
        return images.float().mul_(2 / self.max_value).sub_(1)

    def subset(self, images: int | None, test_images: int | None) -> "ImageData":
        """At most so many images of each split, the classes in equal parts, always the same images."""
        train, test = _balanced(self.train_labels, images), _balanced(self.test_labels, test_images)
        return replace(
            self,
            train_images=self.train_images[train],
            train_labels=self.train_labels[train],
            test_images=self.test_images[test],
            test_labels=self.test_labels[test],
        )

    def fingerprint(self) -> str:
        """A digest of all images and labels; equal digests mean equal data."""
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for part in _PARTS:
            digest.update(getattr(self, part).contiguous().numpy())
        return digest.hexdigest()[:16]


def load_data(
    dataset: str, root: Path | None, cache: Path, *, size: int | None = None, download: bool = False
) -> ImageData:
    """Load a data set; images from files are decoded once, into `cache`.

    Args:
        dataset: "digits" (needs no folder), "cifar10", "imagenet100" or "imagefolder"; the last two are both
            folders of images.
        root: A folder with `train/CLASS/*` and `test/CLASS/*` images, or torchvision's CIFAR-10 root.
        cache: Folder for the decoded arrays.
        size: Resize to size x size.
        download: Let torchvision download CIFAR-10 into `root`.

    Raises:
        CorpusError: The data set is unknown, missing, empty or unreadable.
        MissingExtraError: torchvision is needed and not installed.
    """
    if dataset == "digits":
        return load_digits_data(size)
    if dataset not in DATASETS:
        raise CorpusError(f"unknown data set {dataset!r}: choose from {', '.join(DATASETS)}")
    folder = cache / f"{dataset}-{size or 'native'}"
    if not folder.is_dir():
        _write_cache(folder, _decode(dataset, root, size, download), root)
    return _read_cache(folder, root)


def load_digits_data(size: int | None = None) -> ImageData:
    """scikit-learn's 1,797 digits, 8x8 grey, in a fixed stratified split of 1,437 and 360."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if size not in (None, 8):
        raise CorpusError(f"size={size}: the digits are 8x8 images; leave size out")
    digits = load_digits()
    images = torch.from_numpy(digits.images.astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, test = train_test_split(
        np.arange(len(labels)), test_size=360, random_state=_SPLIT_SEED, stratify=digits.target
    )
    classes = tuple(str(name) for name in digits.target_names)
    return ImageData(images[train], labels[train], images[test], labels[test], classes, max_value=16)


def _balanced(labels: Tensor, count: int | None) -> Tensor:
    """Indices [<= count] of labels in a fixed random order, one of each class in turn."""
    if count is None or count >= len(labels):
        return torch.arange(len(labels))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    turn = torch.zeros(len(labels), dtype=torch.long)
    for label in labels.unique():
        in_class = labels[order] == label
        turn[in_class] = torch.arange(int(in_class.sum()))
    return order[torch.argsort(turn, stable=True)[:count]]


def _torchvision_datasets() -> Any:
    try:
        from torchvision import datasets
    except ImportError as error:
        raise MissingExtraError("torchvision", "vision", "reading CIFAR-10 or an image folder") from error
    except RuntimeError as error:  # built for another torch
        raise CorpusError(
            f"torchvision does not fit the torch {torch.__version__} ({error}): install the two together"
        ) from error
    return datasets


def _decode(dataset: str, root: Path | None, size: int | None, download: bool) -> ImageData:
    if root is None:
        raise CorpusError(
            f"data set {dataset!r} needs its folder: pass data=FOLDER with train/CLASS/* and test/CLASS/*"
            + (", or torchvision's CIFAR-10 root" if dataset == "cifar10" else "")
        )
    if (root / "train").is_dir():
        return _decode_folders(root, size)
    if dataset == "cifar10":
        return _decode_cifar10(root, size, download)
    raise CorpusError(f"no folder {root / 'train'}: an image folder needs train/CLASS/* and test/CLASS/*")


def _decode_cifar10(root: Path, size: int | None, download: bool) -> ImageData:
    cifar10 = _torchvision_datasets().CIFAR10
    if size not in (None, 32):
        raise CorpusError(f"size={size}: torchvision's CIFAR-10 is 32x32; leave size out")
    try:
        splits = [cifar10(str(root), train=train, download=download) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        raise CorpusError(
            f"no CIFAR-10 in {str(root)!r} ({error}): pass download=True, or a folder with train/CLASS/* and "
            "test/CLASS/* images"
        ) from error
    parts = [part for split in splits for part in (_channels_first(split.data), torch.tensor(split.targets))]
    return _image_data(parts, splits[0].classes)


def _decode_folders(root: Path, size: int | None) -> ImageData:
    held_out = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if held_out is None:
        raise CorpusError(f"{str(root)!r} has a folder 'train' but no 'test' (or 'val') beside it")
    train, test = (_image_folder(folder) for folder in (root / "train", held_out))
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise CorpusError(f"train and {held_out.name} under {str(root)!r} differ in their classes: {odd[:5]}")
    parts = [part for split in (train, test) for part in _decode_split(split, size)]
    return _image_data(parts, train.classes)


def _image_folder(folder: Path) -> Any:
    image_folder = _torchvision_datasets().ImageFolder
    try:
        return image_folder(str(folder))
    except OSError as error:
        raise CorpusError(f"cannot read the image folder {str(folder)!r}: {error}") from error


def _decode_split(folder: Any, size: int | None) -> tuple[Tensor, Tensor]:
    first = next(_pictures(folder, size)).shape
    images = np.empty((len(folder), *first), dtype=np.uint8)
    for index, picture in enumerate(_pictures(folder, size)):
        if picture.shape != first:
            raise CorpusError(
                f"{folder.samples[index][0]!r} is {picture.shape[1]}x{picture.shape[0]}, the first image "
                f"{first[1]}x{first[0]}: pass size=N to bring all to N x N"
            )
        images[index] = picture
    return _channels_first(images), torch.tensor(folder.targets)


def _pictures(folder: Any, size: int | None) -> Iterator[np.ndarray]:
    """RGB pictures [height, width, 3] one by one."""
    for path, _ in folder.samples:
        try:
            picture = folder.loader(path)
        except (OSError, ValueError, SyntaxError) as error:
            raise CorpusError(f"cannot read the image {path!r} ({error}): repair or delete it") from error
        yield np.asarray(picture if size is None else picture.resize((size, size)))


def _image_data(parts: Sequence[Tensor], classes: Sequence[str]) -> ImageData:
    train_images, train_labels, test_images, test_labels = parts
    return ImageData(train_images, train_labels, test_images, test_labels, tuple(classes))


def _channels_first(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _write_cache(folder: Path, data: ImageData, root: Path | None) -> None:
    """Write the arrays into a temporary folder and rename it: a cache is complete or absent."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    try:
        for part in _PARTS:
            np.save(temporary / f"{part}.npy", getattr(data, part).numpy())
        about = {"classes": data.classes, "source": str(Path(root or "").resolve())}
        (temporary / "about.json").write_text(json.dumps(about), encoding="utf-8")
        os.rename(temporary, folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was first, with the same arrays
            raise CorpusError(f"cannot write the decoded images to {str(folder)!r}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_cache(folder: Path, root: Path | None) -> ImageData:
    try:
        about = read_json(folder / "about.json")
        parts = [torch.from_numpy(np.load(folder / f"{part}.npy")) for part in _PARTS]
    except (OSError, ValueError) as error:
        raise CorpusError(f"image cache {str(folder)!r} is damaged ({error}): delete that folder") from error
    if root is not None and str(root.resolve()) != about["source"]:
        raise CorpusError(
            f"the images in {str(folder)!r} were decoded from {about['source']!r}, not from {str(root)!r}: "
            "leave data out, or delete that folder to decode again"
        )
    return _image_data(parts, about["classes"])
