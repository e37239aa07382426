"""Predictors on disk: what is saved is loaded, and nothing else is."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import Ridge
from synthetic_runs import corpus, history, paper

from lightning_nndyn.errors import ArtefactError, NNDynWarning, PredictorError
from lightning_nndyn.predictor import Predictor, list_predictors, load_predictor, persistence, pretrained
from lightning_nndyn.signature.snapshot import SIGNATURE_VERSION

CONSTRUCTED: list[str] = []


class Intruder:
    """Says when it is constructed from a file."""

    def __init__(self) -> None:
        self.number = 1

    def __setstate__(self, state: dict[str, Any]) -> None:
        CONSTRUCTED.append("an intruder")
        self.__dict__.update(state)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return paper(low_threshold=0.5, max_epoch=1).fit(*corpus(40), corpus="made up")


@pytest.fixture
def saved(predictor: Predictor, tmp_path: Path) -> Path:
    predictor.save(tmp_path / "one")
    return tmp_path / "one"


def archive(path: Path) -> Path:
    return path.with_suffix(".skops")


def card(path: Path) -> Path:
    return path.with_suffix(".json")


def edit(path: Path, **changes: Any) -> None:
    """Change keys of the card."""
    card(path).write_text(json.dumps({**json.loads(card(path).read_text()), **changes}))


def replace(path: Path, content: bytes) -> None:
    """Put another archive in place, as somebody would who knows of the checksum."""
    archive(path).write_bytes(content)
    edit(path, sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def run(speed: float = 1e-3) -> Any:
    return history(np.random.default_rng(1), speed)


# -- what is saved is loaded


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"classifier": "mlp"},
        {"features": "degree", "regressor": "linear", "scale": "raw", "form": "linear", "seed": 3},
    ],
)
def test_loaded_predictor_says_the_same(settings: Any, tmp_path: Path) -> None:
    fitted = paper(low_threshold=0.5, max_epoch=0.5, **settings).fit(*corpus(40))
    fitted.save(tmp_path / "one")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = Predictor.load(tmp_path / "one")
    for speed in (1e-5, 1e-3, 1e-1):
        assert loaded.predict(run(speed)) == fitted.predict(run(speed))
    assert loaded.times == fitted.times
    assert {key: loaded.card[key] for key in fitted.card} == fitted.card
    loaded.save(tmp_path / "two")
    assert archive(tmp_path / "two").read_bytes() == archive(tmp_path / "one").read_bytes()


@pytest.mark.parametrize("classifier", ["svm", "mlp"])
def test_refit_is_saved_to_the_same_bytes(classifier: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        fitted = paper(low_threshold=0.5, classifier=classifier, max_epoch=0.25).fit(*corpus(40))
        fitted.save(tmp_path / name)
    assert archive(tmp_path / "one").read_bytes() == archive(tmp_path / "two").read_bytes()
    assert card(tmp_path / "one").read_bytes() == card(tmp_path / "two").read_bytes()


@pytest.mark.parametrize("suffix", ["", ".skops", ".json"])
def test_any_of_the_two_files_names_the_predictor(predictor: Predictor, tmp_path: Path, suffix: str) -> None:
    predictor.save(tmp_path / f"lenet-v1.5{suffix}")
    assert {file.name for file in tmp_path.iterdir()} == {"lenet-v1.5.skops", "lenet-v1.5.json"}
    assert Predictor.load(tmp_path / f"lenet-v1.5{suffix}").predict(run()) == predictor.predict(run())


def test_card_says_what_it_is(saved: Path) -> None:
    facts = json.loads(card(saved).read_text())
    content = archive(saved).read_bytes()
    assert facts["format"] == persistence.FORMAT
    assert facts["signature_version"] == SIGNATURE_VERSION
    assert facts["sha256"] == hashlib.sha256(content).hexdigest()
    assert facts["size"] == len(content)
    assert facts["versions"].keys() == {
        *("python", "numpy", "scikit-learn", "skops", "torch", "lightning-nndyn")
    }
    assert (facts["corpus"], facts["runs"], facts["low_threshold"]) == ("made up", 40, 0.5)
    assert facts["times"] == [0.25, 0.5, 1.0]
    assert [score["time"] for score in facts["scores"]] == [0.25, 0.5, 1.0, 1.0]


def test_predictor_that_is_not_fitted_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="nothing to save"):
        paper(low_threshold=0.5).save(tmp_path / "one")
    assert not list(tmp_path.iterdir())


# -- and nothing else is


@pytest.mark.parametrize("where", [0.0, 0.1, 0.33, 0.5, 0.77, 0.95, 1.0])
def test_changed_byte(saved: Path, where: float) -> None:
    content = bytearray(archive(saved).read_bytes())
    content[round(where * (len(content) - 1))] ^= 1
    archive(saved).write_bytes(content)
    with pytest.raises(ArtefactError, match=r"one\.skops is damaged .* sha256"):
        Predictor.load(saved)


def test_cut_archive(saved: Path) -> None:
    archive(saved).write_bytes(archive(saved).read_bytes()[:1000])
    with pytest.raises(ArtefactError, match="1000 bytes"):
        Predictor.load(saved)


def test_missing_card(saved: Path) -> None:
    card(saved).unlink()
    with pytest.raises(ArtefactError, match=r"one\.json is missing"):
        Predictor.load(saved)


def test_missing_archive(saved: Path) -> None:
    archive(saved).unlink()
    with pytest.raises(ArtefactError, match=r"one\.skops cannot be read"):
        Predictor.load(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{'format': 1}"])
def test_card_that_is_not_json(saved: Path, content: bytes) -> None:
    card(saved).write_bytes(content)
    with pytest.raises(ArtefactError, match=r"one\.json is not a readable card"):
        Predictor.load(saved)


@pytest.mark.parametrize("content", [b"[]", b"{}", b"1"])
def test_card_without_a_format(saved: Path, content: bytes) -> None:
    card(saved).write_bytes(content)
    with pytest.raises(ArtefactError, match="has format None"):
        Predictor.load(saved)


def test_card_of_another_format(saved: Path) -> None:
    edit(saved, format=persistence.FORMAT + 1)
    with pytest.raises(
        ArtefactError, match=f"has format {persistence.FORMAT + 1}.*reads format {persistence.FORMAT}"
    ):
        Predictor.load(saved)


def test_other_signature_version_goes_before_damage(saved: Path) -> None:
    edit(saved, signature_version=SIGNATURE_VERSION + 1)
    archive(saved).unlink()
    with pytest.raises(ArtefactError, match=f"signature version {SIGNATURE_VERSION + 1}"):
        Predictor.load(saved)


@pytest.mark.parametrize(
    "key", ["low_threshold", "calibration", "domain", "times", "features", "diverged_accuracy"]
)
def test_edited_card(saved: Path, key: str) -> None:
    """The card's numbers decide what is stopped: they are held against a copy in the archive."""
    edit(saved, **{key: "something else"})
    with pytest.raises(ArtefactError, match=f"{key!r}.*the card was edited"):
        Predictor.load(saved)


def test_card_and_archive_of_two_predictors(saved: Path, tmp_path: Path) -> None:
    paper(low_threshold=0.6, max_epoch=1).fit(*corpus(40)).save(tmp_path / "two")
    archive(saved).write_bytes(archive(tmp_path / "two").read_bytes())
    with pytest.raises(ArtefactError, match="not the file its card describes"):
        Predictor.load(saved)


@pytest.mark.parametrize(
    ("intruder", "name"),
    [
        (Intruder(), f"{__name__}.Intruder"),
        (Ridge(), "sklearn.linear_model._ridge.Ridge"),  # skops itself would trust it
        (np.random.RandomState(0), "RandomStateNode"),
        (len, "builtins.len"),
    ],
)
def test_unknown_type_is_named_and_not_constructed(saved: Path, intruder: Any, name: str) -> None:
    replace(saved, skops.io.dumps({"card": "{}", "models": [{"classifier": intruder}]}))
    CONSTRUCTED.clear()
    with pytest.raises(ArtefactError, match=f"holds .*{name}.*nothing was loaded"):
        Predictor.load(saved)
    assert CONSTRUCTED == []


def test_the_intruder_would_have_been_constructed() -> None:
    """The test above can fail: with skops told to trust it, the intruder speaks."""
    CONSTRUCTED.clear()
    skops.io.loads(skops.io.dumps(Intruder()), trusted=[f"{__name__}.Intruder"])
    assert CONSTRUCTED == ["an intruder"]


def test_known_type_by_an_unknown_way(saved: Path) -> None:
    """The schema says how each object is made: a harmless name does not cover for another way."""
    content = io.BytesIO(archive(saved).read_bytes())
    with zipfile.ZipFile(content) as source:
        files = {name: source.read(name) for name in source.namelist()}
    files["schema.json"] = files["schema.json"].replace(b'"ListNode"', b'"OperatorFuncNode"', 1)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    replace(saved, target.getvalue())
    with pytest.raises(ArtefactError, match="OperatorFuncNode"):
        Predictor.load(saved)


def explode() -> str:
    CONSTRUCTED.append("a bomb")
    return "fragments"


class Bomb:
    """Goes off where it is unpickled."""

    def __reduce__(self) -> Any:
        return explode, ()


def test_the_bomb_would_have_gone_off() -> None:
    CONSTRUCTED.clear()
    pickle.loads(pickle.dumps(Bomb()))
    assert CONSTRUCTED == ["a bomb"]


def test_pickle_is_not_loaded(saved: Path) -> None:
    CONSTRUCTED.clear()
    replace(saved, pickle.dumps(Bomb()))
    with pytest.raises(ArtefactError, match="not a skops archive"):
        Predictor.load(saved)
    assert CONSTRUCTED == []


def test_object_array_is_not_unpickled(saved: Path) -> None:
    """A numpy file may hold a pickle."""
    content = io.BytesIO(archive(saved).read_bytes())
    bomb = io.BytesIO()
    np.save(bomb, np.array([Bomb()], dtype=object), allow_pickle=True)
    target = io.BytesIO()
    with zipfile.ZipFile(content) as source, zipfile.ZipFile(target, "w") as file:
        for name in source.namelist():
            file.writestr(name, bomb.getvalue() if name == "0.npy" else source.read(name))
    CONSTRUCTED.clear()
    replace(saved, target.getvalue())
    with pytest.raises(ArtefactError, match=r"one\.skops cannot be loaded"):
        Predictor.load(saved)
    assert CONSTRUCTED == []


@pytest.mark.parametrize("payload", [{}, {"card": "{}", "models": [{"times": (1.0,)}]}, [1, 2]])
def test_archive_of_something_else(saved: Path, payload: Any) -> None:
    replace(saved, skops.io.dumps(payload))
    with pytest.raises(ArtefactError, match=r"cannot be loaded|lacks a part"):
        Predictor.load(saved)


def test_other_scikit_learn_warns_once_with_both_versions(saved: Path) -> None:
    import sklearn

    versions = json.loads(card(saved).read_text())["versions"]
    edit(saved, versions={**versions, "scikit-learn": "0.99"})
    with pytest.warns(NNDynWarning) as warned:
        Predictor.load(saved)
    assert len(warned) == 1
    assert "0.99" in str(warned[0].message)
    assert sklearn.__version__ in str(warned[0].message)


# -- half a save


def test_save_that_fails_half_way_leaves_no_predictor_that_loads(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two files: the old card does not fit the new archive."""
    other = paper(low_threshold=0.6, max_epoch=1).fit(*corpus(40))
    write = persistence.write_atomically

    def only_the_archive(path: Path, content: bytes) -> None:
        if path.suffix == ".json":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(persistence, "write_atomically", only_the_archive)
    with pytest.raises(KeyboardInterrupt):
        other.save(saved)
    with pytest.raises(ArtefactError, match="not the file its card describes"):
        Predictor.load(saved)


def test_write_that_fails_keeps_the_old_file(
    predictor: Predictor, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        paper(low_threshold=0.6, max_epoch=1).fit(*corpus(40)).save(saved)
    assert Predictor.load(saved).card["low_threshold"] == 0.5
    assert sorted(file.name for file in saved.parent.iterdir()) == ["one.json", "one.skops"]


# -- by name


def test_shipped_predictors_are_found_by_name(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_folder", lambda: saved.parent)
    assert list_predictors() == ["one"]
    assert load_predictor("one").card["corpus"] == "made up"


def test_unknown_name_lists_what_there_is(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_folder", lambda: saved.parent)
    with pytest.raises(ArtefactError, match=r"no predictor named 'two'.*the package has one"):
        load_predictor("two")


def test_any_predictor_is_found_by_path(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_predictor(saved).card["corpus"] == "made up"
    monkeypatch.chdir(saved.parent)
    assert load_predictor("one.skops").card["corpus"] == "made up"
    with pytest.raises(ArtefactError, match=r"nowhere.one\.json is missing"):
        load_predictor("nowhere/one")


def test_every_shipped_predictor_loads_without_a_training_library_in_sight() -> None:
    """Each name that is listed loads, in a process of its own that has not imported Lightning."""
    code = (
        "import sys, lightning_nndyn.predictor as p\n"
        "for name in p.list_predictors():\n"
        "    assert p.load_predictor(name).times, name\n"
        "assert 'lightning' not in sys.modules and 'pytorch_lightning' not in sys.modules\n"
        "print('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "done", done.stderr
