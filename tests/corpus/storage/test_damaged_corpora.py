"""Corpora of which a part is damaged: it is named, and the rest is read."""

from __future__ import annotations

import copy
import gzip
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from mutations import mutations
from typer.testing import CliRunner

from lightning_nndyn.cli import app
from lightning_nndyn.corpus import corpus_status, export_parquet, import_parquet, load_corpus
from lightning_nndyn.corpus.storage.folder import CorpusFolder, read_record
from lightning_nndyn.corpus.training.network import _constructor
from lightning_nndyn.errors import CorpusError, NNDynWarning


@pytest.fixture
def own(corpus: Path, tmp_path: Path) -> Path:
    shutil.copytree(corpus, tmp_path / "own")
    return tmp_path / "own"


def content_of(file: Path) -> dict[str, Any]:
    """A record with one layer of the second snapshot."""
    content = json.loads(gzip.decompress(file.read_bytes()))
    for name in ("snapshots", "losses", "weights", "schedule"):
        content[name] = content[name][:2]
    for snapshot in content["snapshots"]:
        snapshot["layers"] = dict(list(snapshot["layers"].items())[:1])
    content["weights"] = [dict(list(layers.items())[:1]) for layers in content["weights"]]
    return content


def test_no_field_of_a_record_does_more_than_to_leave_it_out(own: Path, tmp_path: Path) -> None:
    content = content_of(CorpusFolder(own).record_file(1))
    file, read = own / "runs" / "run-00001.json.gz", 0
    manifest = CorpusFolder(own).manifest()
    for _, mutated in mutations(content):
        file.write_bytes(gzip.compress(json.dumps(mutated).encode(), 1))
        try:
            record = read_record(file)
        except CorpusError as error:
            assert file.name in str(error)
        else:
            read += 1
            json.dumps(record.to_dict())
    assert read > 100
    assert manifest == CorpusFolder(own).manifest()
    strange = [b"", b"\xff", gzip.compress(b"[" * 10**6), gzip.compress(b"[]"), gzip.compress(b"null")]
    strange += [gzip.compress(json.dumps(content).encode())[:-9] + b"x" * 9, b"\x1f\x8b\x08" + b"\xff" * 50]
    for damaged in strange:
        file.write_bytes(damaged)
        with pytest.raises(CorpusError, match=file.name):
            read_record(file)


def test_one_damaged_record_ends_no_status(own: Path, corpus: Path) -> None:
    runs = own / "runs"
    whole = corpus_status(own)["runs"]
    (runs / "run-00001.json.gz").write_bytes(gzip.compress(b'{"index": 1}'))
    (runs / "run-00002.json.gz").unlink()
    os.mkfifo(runs / "run-00002.json.gz")
    shutil.copy(runs / "run-00003.json.gz", runs / "run-00007.json.gz")  # of another run than its name says
    for name in (
        "run-abc.json.gz",
        "run--0001.json.gz",
        "run-00001x.json.gz",
        "run-\u0660\u0660\u0660\u0660\u0661.json.gz",
        "run-1.json.gz",
    ):
        (runs / name).write_bytes(b"")
    with pytest.warns(NNDynWarning, match="left out: the record 'run-0000") as told:
        found = corpus_status(own)
    assert found["runs"] == whole - 2 and found["damaged"] >= 1
    assert len(told) == 3 and 7 in CorpusFolder(own).failed([1, 3, 7])


def test_no_field_of_a_manifest_ends_a_status_otherwise_than_in_words(own: Path) -> None:
    content = json.loads((own / "corpus.json").read_text())
    refused = 0
    for _, mutated in mutations(content):
        (own / "corpus.json").write_text(json.dumps(mutated))
        try:
            corpus_status(own)
        except CorpusError as error:
            refused += 1
            assert str(own) in str(error)
    assert refused > 100


@pytest.mark.parametrize("name", ["../outside", "a/b", "a\\b", "", ".", "a\0", "x" * 101])
def test_a_corpus_has_a_name_that_is_no_path(own: Path, name: str) -> None:
    """Tables and figures of an evaluation are named after it."""
    content = json.loads((own / "corpus.json").read_text())
    for settings in ({"name": name}, {"datasets": [name]}):
        (own / "corpus.json").write_text(
            json.dumps({**content, "settings": {**content["settings"], **settings}})
        )
        with pytest.raises(CorpusError, match="damaged manifest"):
            corpus_status(own)


@pytest.mark.parametrize("name", ["nn", "torch", "Callable", "__doc__", "nothing"])
def test_a_network_is_one_of_ours(name: str) -> None:
    with pytest.raises(CorpusError, match="is no network of this version"):
        _constructor(name)


# -- parquet


@pytest.mark.needs("pyarrow")
@pytest.mark.parametrize("kind", ["value", "type", "gone"])
def test_no_column_of_a_parquet_file_does_more_than_to_leave_a_run_out(
    own: Path, tmp_path: Path, kind: str
) -> None:
    import pyarrow
    from pyarrow import parquet

    export_parquet(own, tmp_path / "whole.parquet")
    table = parquet.read_table(tmp_path / "whole.parquet")
    read = 0
    for name in table.schema.names:
        values = table[name].to_pylist()
        at = table.schema.get_field_index(name)
        if kind == "gone":
            changed = [table.drop_columns([name])]
        elif kind == "type":
            changed = [table.set_column(at, name, pyarrow.array(["text"] * len(values)))]
        else:
            new = [None, []] if isinstance(values[1], list) else [None]
            new += [values[1][:-1], values[1] * 2] if isinstance(values[1], list) else []
            new += ["{", "[]", "null", ""] if isinstance(values[1], str) else []
            new += [-1] if type(values[1]) is int else []
            field = table.schema.field(at)
            columns = [pyarrow.array([values[0], one, *values[2:]], field.type) for one in new]
            changed = [table.set_column(at, field, column) for column in columns]
        for one in changed:
            file = tmp_path / "changed.parquet"
            parquet.write_table(one.replace_schema_metadata(table.schema.metadata), file)
            for raw in (True, False):
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", NNDynWarning)
                        assert len(load_corpus(file, raw=raw)) >= len(values) - 1
                        corpus_status(file)
                    read += 1
                except CorpusError as error:
                    assert "changed.parquet" in str(error)
    assert read > 10 or kind == "type"


@pytest.mark.needs("pyarrow")
def test_one_damaged_row_is_named_and_the_others_are_imported(own: Path, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    export_parquet(own, tmp_path / "whole.parquet")
    table = parquet.read_table(tmp_path / "whole.parquet")
    at = table.schema.get_field_index("config")
    texts = table["config"].to_pylist()
    broken = table.set_column(at, "config", pyarrow.array([texts[0], "{}", *texts[2:]]))
    parquet.write_table(broken.replace_schema_metadata(table.schema.metadata), tmp_path / "broken.parquet")
    with pytest.warns(NNDynWarning, match=r"1 runs are left out: row 1 of .*broken.parquet"):
        assert import_parquet(tmp_path / "broken.parquet", tmp_path / "folder") == len(texts) - 1


@pytest.mark.needs("pyarrow")
def test_other_files_are_no_corpora(own: Path, tmp_path: Path) -> None:
    export_parquet(own, tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()
    for number, damaged in enumerate(
        (b"", b"PAR1", content[:-10], content[:300] + b"\0" * 300 + content[600:])
    ):
        file = tmp_path / f"{number}.parquet"
        file.write_bytes(damaged)
        with pytest.raises(CorpusError, match=file.name):
            load_corpus(file)
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(CorpusError):
        corpus_status(tmp_path / "pipe.parquet")


def test_status_goes_on_with_the_others_and_ends_with_status_1(own: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "corpus.json").write_text("[]")
    for names, status in (([own], 0), ([tmp_path / "bad", own, tmp_path / "nowhere"], 1)):
        done = CliRunner().invoke(app, ["corpus", "status", *map(str, names), "--json"])
        assert done.exit_code == status and '"corpus": "tiny"' in done.output
    assert "left out: cannot read" in done.output and "nowhere" in done.output


def test_what_is_read_is_not_changed(own: Path) -> None:
    file = CorpusFolder(own).record_file(1)
    before = json.loads(gzip.decompress(file.read_bytes()))
    again = json.loads(json.dumps(read_record(file).to_dict()))
    assert json.dumps(again) == json.dumps({name: copy.deepcopy(before)[name] for name in again})
