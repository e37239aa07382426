"""Predictors on disk: a skops archive and, beside it, a JSON card with the facts about it.

No object of the archive is constructed before the card, the versions, the checksum and the names of all types
in it have been checked. No pickle is read anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

from lightning_nndyn._files import parse_json, read_bytes, read_json, write_atomically
from lightning_nndyn.errors import ArtefactError, NNDynWarning
from lightning_nndyn.predictor.skops_archive import LARGEST_ARCHIVE, disallowed_types, dumps, load_plain
from lightning_nndyn.signature.snapshot import SIGNATURE_VERSION

FORMAT = 2
"""Version of the card's keys and the archive's layout."""

_LIBRARIES = ("numpy", "scikit-learn", "skops", "torch", "lightning-nndyn")
# Facts about the file and the machine it was made on are in the card alone: equal models give equal archives.
_CARD_ONLY = frozenset({"sha256", "size", "versions"})


def paths(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Archive and card of a predictor; `path` may name either or leave the suffix out."""
    whole = Path(path)
    stem = whole.with_suffix("") if whole.suffix in (".skops", ".json") else whole
    return stem.with_name(stem.name + ".skops"), stem.with_name(stem.name + ".json")


def write(path: str | os.PathLike[str], card: dict[str, Any], models: list[dict[str, Any]]) -> None:
    """Save models and card, each atomically, the card last.

    If the process is killed between the two, the old card's checksum does not match the new archive, and
    loading raises an error. Equal models give equal bytes.
    """
    archive, card_file = paths(path)
    content = dumps({"card": _plain(card), "models": models})
    full = {
        **card,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "versions": _versions(),
    }
    write_atomically(archive, content)
    write_atomically(card_file, (json.dumps(full, indent=1, allow_nan=False) + "\n").encode())


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Load card and models; the inverse of `write`.

    Raises:
        ArtefactError: the card or the archive is missing, damaged, of another version, names an unknown type,
            or does not belong to the other.
    """
    archive, card_file = paths(path)
    card = _read_card(card_file)
    content = _read_archive(archive, card)
    _audit(archive, content)
    payload = _construct(archive, content, card)
    for name, value in payload["card"].items():
        if card.get(name) != value:
            raise ArtefactError(
                f"{card_file} says something else under {name!r} than {archive} was saved with: "
                "the card was edited. Restore both files together, or fit the predictor anew."
            )
    return card, payload["models"]


def _read_card(card_file: Path) -> dict[str, Any]:
    try:
        card = read_json(card_file)
    except FileNotFoundError:
        raise ArtefactError(
            f"{card_file} is missing: a predictor is a .skops file and the .json card beside it. Copy both."
        ) from None
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{card_file} is not a readable card: {error}. Restore the file.") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        found = card.get("format") if isinstance(card, dict) else None
        raise ArtefactError(
            f"{card_file} has format {found!r}, this version of lightning-nndyn reads format {FORMAT}: "
            "fit the predictor anew, or install the version of lightning-nndyn that wrote it."
        )
    if card.get("signature_version") != SIGNATURE_VERSION:
        raise ArtefactError(
            f"{card_file} was fitted on signature version {card.get('signature_version')!r}, this version of "
            f"lightning-nndyn computes signature version {SIGNATURE_VERSION}: fit the predictor anew."
        )
    return card


def _read_archive(archive: Path, card: dict[str, Any]) -> bytes:
    try:
        content = read_bytes(archive, LARGEST_ARCHIVE)
    except OSError as error:
        raise ArtefactError(f"{archive} cannot be read ({error}). Copy it beside its card.") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.get("sha256"):
        raise ArtefactError(
            f"{archive} is damaged or not the file its card describes: {len(content)} bytes with sha256 "
            f"{digest}, the card says {card.get('size')} with {card.get('sha256')}. Restore both files."
        )
    return content


def _audit(archive: Path, content: bytes) -> None:
    try:
        unknown = disallowed_types(content)
    except Exception as error:  # the readers of zip, JSON and skops raise anything for a file made by hand
        raise ArtefactError(f"{archive} is not a skops archive that can be audited: {error!r}") from error
    if unknown:
        raise ArtefactError(
            f"{archive} holds {', '.join(unknown)}, which no predictor is made of: nothing was loaded. "
            "Do not use this file; get the predictor from its source or fit it anew."
        )


def _construct(archive: Path, content: bytes, card: dict[str, Any]) -> dict[str, Any]:
    try:
        payload = load_plain(content) if _is_forest(card) else _load_estimators(archive, content, card)
        return {"card": parse_json(payload["card"]), "models": payload["models"]}
    except Exception as error:  # estimators of another scikit-learn can fail in any way
        raise ArtefactError(
            f"{archive} cannot be loaded with the installed libraries: {error!r}. "
            f"It was made with {_show(card.get('versions'))}."
        ) from error


def _is_forest(card: dict[str, Any]) -> bool:
    """Whether its models are plain arrays, independent of scikit-learn."""
    return card.get("classifier") == "forest"


def _load_estimators(archive: Path, content: bytes, card: dict[str, Any]) -> Any:
    import skops.io

    _warn_of_versions(archive, card)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of its version once an estimator
        return skops.io.loads(content, trusted=[])


def _warn_of_versions(archive: Path, card: dict[str, Any]) -> None:
    versions = card.get("versions")
    theirs = versions.get("scikit-learn") if isinstance(versions, dict) else None
    ours = metadata.version("scikit-learn")
    if theirs != ours:
        warnings.warn(
            f"{archive.name} was made with scikit-learn {theirs}, installed is {ours}: its predictions may "
            f"differ. Install scikit-learn=={theirs} or fit the predictor anew.",
            NNDynWarning,
            stacklevel=5,
        )


def _show(versions: Any) -> str:
    known = versions.items() if isinstance(versions, dict) else ()
    return ", ".join(f"{name} {version}" for name, version in known) or "unknown versions"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            found[library] = "unknown"
    return found


def _plain(card: dict[str, Any]) -> str:
    kept = {name: value for name, value in card.items() if name not in _CARD_ONLY}
    return json.dumps(kept, allow_nan=False)
