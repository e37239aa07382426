"""The bytes of a skops archive: equal for equal objects, and audited before anything is constructed."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from lightning_nndyn._files import parse_json

ALLOWED_TYPES = frozenset(
    """
    builtins.dict builtins.list builtins.str builtins.tuple numpy.float64 numpy.int64 numpy.ndarray
    sklearn.linear_model._base.LinearRegression
    sklearn.neural_network._multilayer_perceptron.MLPClassifier
    sklearn.pipeline.Pipeline
    sklearn.preprocessing._data.StandardScaler
    sklearn.preprocessing._label.LabelBinarizer
    sklearn.svm._classes.SVC
    sklearn.svm._classes.SVR
    """.split()
)
"""The only types that an archive may name."""

ALLOWED_LOADERS = frozenset("DictNode JsonNode ListNode NdArrayNode ObjectNode TupleNode TypeNode".split())
"""The only skops loaders (ways to construct an object) that an archive may name."""

LARGEST_ARCHIVE = 2**28
"""Bytes of the largest archive, and of all that it holds once it is expanded: six times `universal`."""

_SCHEMA = "schema.json"
_LARGEST_SCHEMA = 2**23
_EPOCH_OF_ZIP = (1980, 1, 1, 0, 0, 0)


def dumps(payload: dict[str, Any]) -> bytes:
    """Serialise; equal payloads give equal bytes."""
    import skops.io

    return _canonical(skops.io.dumps(payload))


def disallowed_types(content: bytes) -> list[str]:
    """Names of all types and loaders in an archive that are not allowed. Constructs nothing.

    skops' own audit trusts all of scikit-learn. This one allows the few types that predictors consist of;
    skops' audit comes second, when it loads. No more is read of a file than it declares.

    Raises:
        ValueError: the archive would take too much memory, or has two files of one name.
        Exception: of any kind, if the archive is not one that skops can read.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        sizes = {one.filename: one.file_size for one in file.infolist()}
        if len(sizes) < len(file.infolist()):
            raise ValueError("it has two files of one name")
        if sizes[_SCHEMA] > _LARGEST_SCHEMA:
            raise ValueError(f"its schema takes {sizes[_SCHEMA]:,} bytes, more than {_LARGEST_SCHEMA:,}")
        schema = parse_json(file.read(_SCHEMA))
        total = _expanded(schema, sizes)
        if total > LARGEST_ARCHIVE:
            raise ValueError(f"it would take {total:,} bytes of memory, more than {LARGEST_ARCHIVE:,}")
        for name in sizes.keys() - {_SCHEMA}:
            _check_header(file, name, sizes[name])
    return sorted(set(_names(schema)) - ALLOWED_TYPES - ALLOWED_LOADERS)


def load_plain(content: bytes) -> Any:
    """What an audited archive of plain values holds: numbers, texts, arrays, and containers of these.

    The archive of a forest is one. It is read without skops and scikit-learn, whose imports would take most
    of the time and memory that the callback adds to a process.

    Raises:
        LookupError: the archive holds an estimator, which skops must construct.
        ValueError: an array or a text is malformed.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return _plain_value(parse_json(file.read(_SCHEMA)), file)


def _plain_value(node: Any, file: zipfile.ZipFile) -> Any:
    match node:
        case {"__loader__": "JsonNode", "content": str(text)}:
            return parse_json(text)
        case {"__loader__": "NdArrayNode", "type": "numpy", "file": name}:
            with file.open(name) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        case {"__loader__": "DictNode", "content": dict(content)}:
            return {key: _plain_value(value, file) for key, value in content.items()}
        case {"__loader__": "ListNode" | "TupleNode" as loader, "content": list(content)}:
            values = [_plain_value(value, file) for value in content]
            return values if loader == "ListNode" else tuple(values)
    raise LookupError("the archive holds more than plain values")


def _expanded(schema: Any, sizes: dict[str, int]) -> int:
    """Bytes of all files together; those that several arrays are made of count for each."""
    uses = Counter(_files(schema))
    return sum(size * max(1, uses[name]) for name, size in sizes.items())


def _files(node: Any) -> Iterator[str]:
    if isinstance(node, dict) and "__loader__" in node and "file" in node:
        yield node["file"]
    for child in _children(node):
        yield from _files(child)


def _check_header(file: zipfile.ZipFile, name: str, size: int) -> None:
    """An array must be as large as its file: NumPy takes the memory for it before it reads it."""
    with file.open(name) as stream:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(stream)
        expected = stream.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if expected != size and not dtype.hasobject:  # NumPy itself refuses objects
        raise ValueError(f"its array {name!r} says that it takes {expected:,} bytes, its file has {size:,}")


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, dict) and "__loader__" in node:
        yield str(node["__loader__"])
        yield f"{node.get('__module__')}.{node.get('__class__')}"
    for child in _children(node):
        yield from _names(child)


def _children(node: Any) -> list[Any]:
    return list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []


def _canonical(content: bytes) -> bytes:
    """Number objects and files by their order instead of their address in memory, and drop the clock."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        files = {name: source.read(name) for name in source.namelist()}
    schema = json.loads(files.pop(_SCHEMA))
    renamed: dict[str, str] = {}
    _renumber(schema, {}, renamed)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for old, new in renamed.items():
            _add(file, new, files[old])
        _add(file, _SCHEMA, json.dumps(schema).encode())
    return target.getvalue()


def _renumber(node: Any, numbers: dict[int, int], renamed: dict[str, str]) -> None:
    if isinstance(node, dict):
        if "__id__" in node:
            node["__id__"] = numbers.setdefault(node["__id__"], len(numbers))
        if "__loader__" in node and "file" in node:
            node["file"] = renamed.setdefault(node["file"], f"{len(renamed)}.npy")
    for child in _children(node):
        _renumber(child, numbers, renamed)


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    file.writestr(zipfile.ZipInfo(name, _EPOCH_OF_ZIP), content, zipfile.ZIP_DEFLATED, compresslevel=9)
