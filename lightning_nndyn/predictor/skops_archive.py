"""The bytes of a skops archive: equal for equal objects, and audited before anything is constructed."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

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

_EPOCH_OF_ZIP = (1980, 1, 1, 0, 0, 0)


def dumps(payload: dict[str, Any]) -> bytes:
    """Serialise; equal payloads give equal bytes."""
    import skops.io

    return _canonical(skops.io.dumps(payload))


def disallowed_types(content: bytes) -> list[str]:
    """Names of all types and loaders in an archive that are not allowed. Constructs nothing.

    skops' own audit trusts all of scikit-learn. This one allows the few types that predictors consist of;
    skops' audit comes second.

    Raises:
        Exception: of any kind, if the archive is not one that skops can read.
    """
    import skops.io

    with zipfile.ZipFile(io.BytesIO(content)) as file:
        named = set(_names(json.loads(file.read("schema.json"))))
    unknown = named - ALLOWED_TYPES - ALLOWED_LOADERS
    return sorted(unknown or set(skops.io.get_untrusted_types(data=content)))


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
    schema = json.loads(files.pop("schema.json"))
    renamed: dict[str, str] = {}
    _renumber(schema, {}, renamed)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for old, new in renamed.items():
            _add(file, new, files[old])
        _add(file, "schema.json", json.dumps(schema).encode())
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
    file.writestr(zipfile.ZipInfo(name, _EPOCH_OF_ZIP), content, zipfile.ZIP_DEFLATED)
