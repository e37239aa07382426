"""Files of plain arrays (NumPy's ``.npz``), as models without estimators ship; and checks of such arrays."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lightning_nndyn._files import write_atomically
from lightning_nndyn.errors import ArtefactError

T = TypeVar("T")


def write_arrays(path: Path, inputs: Sequence[str], arrays: Mapping[str, Any]) -> None:
    """Write the arrays of a model.

    Args:
        path: of the file; it appears whole or not at all.
        inputs: names of the numbers that the model reads.
        arrays: by name.
    """
    content = io.BytesIO()
    np.savez_compressed(content, inputs=np.array(inputs), **arrays)
    write_atomically(path, content.getvalue())


def read_arrays(path: Path, inputs: Sequence[str], build: Callable[[dict[str, Any]], T], what: str) -> T:
    """The model whose arrays `write_arrays` wrote.

    Args:
        path: of the file.
        inputs: names of the numbers that this release gives to the model.
        build: makes the model of its arrays; raises KeyError, TypeError or ValueError where they are unfit.
        what: the model is of, in words.

    Raises:
        ArtefactError: the file is missing, damaged, or not of such a model.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        named = tuple(arrays.pop("inputs"))
        if named != tuple(inputs):
            raise ValueError(f"it reads {len(named)} inputs, this release gives {len(inputs)}")
        return build(arrays)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtefactError(f"{path} is no model of {what} ({error}): install the package anew") from error


def check_array(
    array: Any, kind: str, shape: tuple[int | None, ...], low: float = -np.inf, high: float = np.inf
) -> None:
    """Checks an array from an archive.

    Args:
        array: what is to be one.
        kind: NumPy's letter for its type: "i" for integers, "f" for numbers, which must be finite.
        shape: that it must have; None for any length of at least 1.
        low: the smallest number allowed.
        high: the largest.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind != kind or array.ndim != len(shape):
        raise ValueError(f"{array!r:.60} is no array of {len(shape)} dimensions of type {kind!r}")
    if any(
        size < 1 if wanted is None else size != wanted
        for size, wanted in zip(array.shape, shape, strict=True)
    ):
        raise ValueError(f"an array has the shape {array.shape}, not {shape}")
    smallest, largest = (array.min(), array.max()) if array.size else (low, high)
    if not (low <= smallest and largest <= high and np.isfinite([smallest, largest]).all()):  # NaN is neither
        raise ValueError(f"an array holds numbers from {smallest} to {largest}, not from {low} to {high}")
