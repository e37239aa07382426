"""Predictors whose checksum is right and whose content is not: none loads, hangs, or takes all memory."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import frozen_verdicts as frozen
import numpy as np
import pytest
import skops.io
from mutations import mutations

from lightning_nndyn.errors import ArtefactError
from lightning_nndyn.predictor import Predictor, pretrained, skops_archive

Payload = dict[str, Any]
SHIPPED = pretrained._folder() / "lenet5-imagenet100"


@pytest.fixture(scope="module")
def payload() -> Payload:
    """The card and the last model of a predictor that ships: weights and curve, with a linear model."""
    content = skops.io.loads(SHIPPED.with_suffix(".skops").read_bytes())
    return {"card": json.loads(content["card"]), "models": content["models"][-1:]}


def put(path: Path, payload: Payload, content: bytes | None = None) -> Path:
    """Writes a predictor as somebody would who knows how they are checked."""
    card = payload["card"]
    if content is None:
        content = skops.io.dumps({"card": json.dumps(card), "models": payload["models"]})
    path.with_suffix(".skops").write_bytes(content)
    full = {**card, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "versions": {}}
    path.with_suffix(".json").write_text(json.dumps(full))
    return path


def copied(payload: Payload) -> Payload:
    """A copy whose arrays can be written to."""
    return skops.io.loads(skops.io.dumps(payload))


def test_the_material_loads_as_it_is(payload: Payload, tmp_path: Path) -> None:
    assert len(Predictor.load(put(tmp_path / "one", payload))._models) == 1


def of_forest(name: str, value: Any, where: Any = 0) -> Callable[[Payload], None]:
    def change(model: Payload) -> None:
        array = model["fitted"]["forest"][name]
        array[where] = value(array) if callable(value) else value

    return change


def of(*path: str, value: Any) -> Callable[[Payload], None]:
    def change(model: Payload) -> None:
        inner = model
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value(inner[path[-1]]) if callable(value) else value

    return change


def with_children(forest: Payload, *, left: float = 1, right: int | None = None) -> Payload:
    """The forest as an older release kept it: both children of a node by their numbers."""
    kept = {name: array for name, array in forest.items() if name != "right"}
    to_right = forest["right"] if right is None else np.full_like(forest["right"], right)
    steps = np.stack([np.full_like(to_right, left, dtype=np.array(left).dtype), to_right], axis=1)
    return {**kept, "children": np.arange(len(steps))[:, None] + steps}


WHOLE = slice(None)
CHANGES: dict[str, Callable[[Payload], None]] = {
    "a node is its own child": of_forest("right", 0),
    "both children are one": of_forest("right", 1),
    "a child comes before its parent": of_forest("right", -1, WHOLE),
    "a child of another tree": of_forest("right", lambda r: len(r) - 1),
    "a child out of range": of_forest("right", 10**9),
    "children are fractions": of("fitted", "forest", "right", value=lambda r: r + 0.5),
    "no children": of("fitted", "forest", value=lambda f: {k: v for k, v in f.items() if k != "right"}),
    "an older release's children, one not the next": of(
        "fitted", "forest", value=lambda f: with_children(f, left=2)
    ),
    "an older release's children, before their parents": of(
        "fitted", "forest", value=lambda f: with_children(f, right=-1)
    ),
    "an older release's children, of fractions": of(
        "fitted", "forest", value=lambda f: with_children(f, left=1.5)
    ),
    "a column out of range": of_forest("feature", 5000),
    "a negative column": of_forest("feature", -2),
    "no leaves": of_forest("feature", 0, WHOLE),
    "an infinite threshold": of_forest("threshold", np.inf),
    "a threshold that is no number": of_forest("threshold", np.nan),
    "infinite values": of_forest("values", np.inf, WHOLE),
    "values that are no numbers": of_forest("values", np.nan, WHOLE),
    "a probability above 1": of_forest("values", 1.5, (0, 0)),
    "a negative accuracy": of_forest("values", -0.5, (0, 1)),
    "two outputs": of("fitted", "forest", "values", value=lambda v: v[:, :2]),
    "roots out of range": of_forest("roots", 10**9, -1),
    "roots that descend": of("fitted", "forest", "roots", value=lambda r: r[::-1].copy()),
    "no trees": of("fitted", "forest", "roots", value=lambda r: r[:0]),
    "no nodes": of("fitted", "forest", "feature", value=lambda f: f[:0]),
    "more columns than a row has": of("fitted", "forest", "importances", value=lambda i: np.append(i, i)),
    "an infinite importance": of_forest("importances", np.inf),
    "no forest": of("fitted", "forest", value=None),
    "a linear model of infinities": of("fitted", "line", value=lambda line: line * np.inf),
    "a linear model of other columns": of("fitted", "width", value=2),
    "a width that is none": of("fitted", "width", value="4"),
    "an infinite slope": of("platt", "slope", value=math.inf),
    "a risk without a scale": of("risk", value=[0.5, 0.0]),
    "a risk that is no number": of("risk", value=[math.nan, 1.0]),
    "a risk of three": of("risk", value=[0.5, 1.0, 1.0]),
    "a share above 1": of("blend", value=2.0),
    "no times": of("times", value=()),
    "times that descend": of("times", value=(2.0, 1.0)),
    "a time that is no number": of("times", value=(math.nan,)),
    "an unknown kind": of("kind", value="stars"),
    "columns of a row out of range": of("neighbours", "columns", value=lambda c: c + 1000),
    "a run far away": of("neighbours", "points", value=lambda p: p * np.inf),
    "no runs": of("neighbours", "points", value=lambda p: p[:0]),
    "distances that descend": of("neighbours", "held_out", value=lambda h: h[::-1].copy()),
    "no distances": of("neighbours", "held_out", value=lambda h: h[:0]),
    "weights of another number": of("neighbours", "weight", value=lambda w: w[:3]),
    "an array that is none": of("neighbours", "centre", value=[0.0]),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_hostile_model_is_refused_in_words(
    payload: Payload, tmp_path: Path, change: Callable[[Payload], None]
) -> None:
    models = copied({"models": payload["models"]})["models"]
    change(models[0])
    with pytest.raises(ArtefactError, match=r"one lacks a part of a predictor, or has one that no fit gives"):
        Predictor.load(put(tmp_path / "one", {**payload, "models": models}))


@pytest.mark.parametrize("models", [[], [None], {}, [[]], [{}], "models"])
def test_models_that_are_none_are_refused(payload: Payload, tmp_path: Path, models: Any) -> None:
    with pytest.raises(ArtefactError, match="lacks a part"):
        Predictor.load(put(tmp_path / "one", {**payload, "models": models}))


def test_trees_do_not_go_down_for_ever(payload: Payload, tmp_path: Path) -> None:
    """A tree of a million nodes in a row ends, but takes a million steps a prediction."""
    models = copied({"models": payload["models"]})["models"]
    forest, nodes = models[0]["fitted"]["forest"], 10**6
    along = np.arange(1, nodes + 1, dtype=np.int32)
    along[-1] = 0
    forest |= {
        "roots": np.zeros(1, dtype=np.int32),
        "feature": np.where(along == 0, -1, 0).astype(np.int16),
        "threshold": np.zeros(nodes, dtype=np.float32),
        "right": np.where(along == 0, 0, 2).astype(np.int32),
        "values": np.zeros((nodes, 3), dtype=np.float32),
    }
    with pytest.raises(ArtefactError, match="more than 131,072 nodes"):
        Predictor.load(put(tmp_path / "one", {**payload, "models": models}))


def test_no_field_of_a_card_does_more_than_to_be_refused(payload: Payload, tmp_path: Path) -> None:
    """Mutated in both places, so that the card does not look edited."""
    refused = 0
    plain = {"card": {**payload["card"], "scores": []}, "models": payload["models"]}
    content = skops.io.dumps({"card": "CARD", "models": plain["models"]})
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        files = {name: file.read(name) for name in file.namelist()}
    plain["card"]["domain"] = {**plain["card"]["domain"], "statistics": {"degree_mean": [0, 1]}}
    for _, card in mutations(plain["card"]):
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as file:
            for name, data in files.items():
                text = json.dumps(json.dumps(json.dumps(card))[1:-1])[1:-1]
                file.writestr(name, data.replace(b"CARD", text.encode()) if name == "schema.json" else data)
        put(tmp_path / "one", {"card": card, "models": None}, target.getvalue())
        try:
            Predictor.load(tmp_path / "one")
        except ArtefactError:
            refused += 1
    assert refused > 200


# -- files and sizes


def rewritten(content: bytes, change: Callable[[zipfile.ZipFile, str, bytes], None]) -> bytes:
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file,
    ):
        for name in source.namelist():
            change(file, name, source.read(name))
    return target.getvalue()


def lying(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    """An array that says that it has 10^12 numbers."""
    if name == "0.npy":
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
        )
        data = header.getvalue() + data[-80:]
    file.writestr(name, data)


def twice(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    for _ in range(1 + (name == "0.npy")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file.writestr(name, data)


def large(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    if name == "0.npy":
        data = b"\0" * 10**7
    file.writestr(name, data)


def one_for_all(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    """A small archive whose arrays are all made of one large file."""
    if name == "schema.json":
        for number in range(1, 300):
            data = data.replace(f'"{number}.npy"'.encode(), b'"0.npy"')
    file.writestr(name, b"\0" * 10**5 if name == "0.npy" else data)


def long_schema(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    file.writestr(name, data + b" " * 2**23 if name == "schema.json" else data)


def deep_schema(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    file.writestr(name, b"[" * 10**6 if name == "schema.json" else data)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lying, "says that it takes 8,000,000,000,... bytes"),
        (twice, "two files of one name"),
        (large, "it would take 1.,...,... bytes of memory"),
        (one_for_all, "it would take .* bytes of memory"),
        (long_schema, "schema takes 8,...,... bytes"),
        (deep_schema, "nested too deeply"),
    ],
)
def test_memory_is_bounded_before_anything_is_read(
    payload: Payload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, complaint: str
) -> None:
    monkeypatch.setattr(skops_archive, "LARGEST_ARCHIVE", 9 * 10**6)
    content = rewritten(SHIPPED.with_suffix(".skops").read_bytes(), change)
    with pytest.raises(ArtefactError, match=f"not a skops archive that can be audited.*{complaint}"):
        Predictor.load(put(tmp_path / "one", payload, content))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("suffix", [".skops", ".json"])
def test_a_pipe_or_a_folder_is_no_predictor(payload: Payload, tmp_path: Path, suffix: str) -> None:
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)):
        path = put(tmp_path / "one", payload).with_suffix(suffix)
        path.unlink()
        make(path)
        with pytest.raises(ArtefactError, match=r"one\.\w+ (cannot be read|is not a readable card)"):
            Predictor.load(tmp_path / "one")
        shutil.rmtree(path) if path.is_dir() else path.unlink()


# -- the paper's models


@pytest.mark.parametrize("name", ["paper-svm", "paper-mlp-linear"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_estimators_of_other_shapes_or_without_numbers_are_refused(
    tmp_path: Path, name: str, number: float
) -> None:
    content = skops.io.loads((frozen.FOLDER / f"{name}.skops").read_bytes())
    model = content["models"][0]["fitted"]
    arrays = {
        (part, key): value
        for part in ("classifier", "regressor")
        for key, value in vars(model[part][-1]).items()
        if key
        in ("support_vectors_", "_dual_coef_", "_intercept_", "coef_", "_n_support", "support_", "coefs_")
    }
    card = json.loads(content["card"])
    for (part, key), value in arrays.items():
        first = value[0] if isinstance(value, list) else value
        broken = first[:-1] if first.dtype.kind == "i" else first * number
        vars(model[part][-1])[key] = [broken, *value[1:]] if isinstance(value, list) else broken
        with pytest.raises(ArtefactError, match="lacks a part"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Predictor.load(put(tmp_path / "one", {"card": card, "models": content["models"]}))
        vars(model[part][-1])[key] = value
    assert len(arrays) >= 2
