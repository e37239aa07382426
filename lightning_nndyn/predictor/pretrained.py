"""The predictors that ship with the package."""

from __future__ import annotations

import os
from pathlib import Path

from lightning_nndyn._files import shipped_folder
from lightning_nndyn.errors import ArtefactError
from lightning_nndyn.predictor import persistence
from lightning_nndyn.predictor.predictor import Predictor


def list_predictors() -> list[str]:
    """Names of the predictors that ship with the package."""
    return sorted(file.stem for file in _folder().glob("*.skops"))


def is_shipped(predictor: str | os.PathLike[str] | Predictor) -> bool:
    """Whether a predictor, or its name, is one that ships with the package: it knows accuracies alone."""
    if isinstance(predictor, Predictor):
        return predictor.shipped
    return os.fspath(predictor) in list_predictors()


def load_predictor(name_or_path: str | os.PathLike[str]) -> Predictor:
    """Load a predictor that ships with the package by name, or any other by path.

    A name goes before a file of that name in the working directory, which is reached as `./name`.

    Raises:
        ArtefactError: there is none of that name, or the files are not right (see `Predictor.load`).
    """
    name = os.fspath(name_or_path)
    if is_shipped(name):
        predictor = Predictor.load(_folder() / name)
        predictor.shipped = True
        return predictor
    if Path(name).name == name and not any(file.exists() for file in persistence.paths(name)):
        raise ArtefactError(
            f"there is no predictor named {name!r}, and no such file: the package has "
            f"{', '.join(list_predictors()) or 'none'}. Give one of these names or the path to a .skops file."
            " The repository has more, in pretrained_predictors/ (NAME.skops with NAME.json); "
            "`nndyn fit` makes one of a corpus, or of your own runs."
        )
    return Predictor.load(name)


def _folder() -> Path:
    return shipped_folder("pretrained_predictors")
