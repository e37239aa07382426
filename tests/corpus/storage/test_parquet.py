"""Corpora as parquet files: exact, small, carried and continued, and clear about damage."""

import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_corpus import run, texts

from lightning_nndyn.corpus import (
    corpus_status,
    export_parquet,
    get_preset,
    import_parquet,
    load_corpus,
    load_digits_data,
    verify_corpus,
)
from lightning_nndyn.corpus.storage.folder import CorpusFolder
from lightning_nndyn.errors import CorpusError, MissingExtraError
from lightning_nndyn.evaluation.dataset import history_of


@pytest.mark.needs("pyarrow")
def test_parquet_gives_the_same_records_exactly(corpus: Path, tmp_path: Path) -> None:
    file = tmp_path / "tiny.parquet"
    export_parquet(corpus, file)
    assert texts(file) == texts(corpus)
    assert corpus_status(file) == corpus_status(corpus)
    thin = load_corpus(file, raw=False)
    assert [record.snapshots[1].statistics for record in thin] == [
        record.snapshots[1].statistics for record in load_corpus(corpus)
    ]
    assert not thin[0].snapshots[1].layers and not thin[0].weights[1]


@pytest.mark.needs("pyarrow")
def test_a_corpus_carried_away_goes_on_elsewhere(corpus: Path, tmp_path: Path) -> None:
    run(tmp_path / "first", runs=4)
    export_parquet(tmp_path / "first", tmp_path / "tiny.parquet")
    assert import_parquet(tmp_path / "tiny.parquet", tmp_path / "second") == 4
    assert import_parquet(tmp_path / "tiny.parquet", tmp_path / "second") == 0
    assert texts(tmp_path / "second") == texts(tmp_path / "first")
    run(tmp_path / "second")
    assert [text for text in texts(tmp_path / "second") if text in texts(tmp_path / "first")] == texts(
        tmp_path / "first"
    )
    assert corpus_status(tmp_path / "second")["runs"] == 6


@pytest.mark.needs("pyarrow")
def test_a_corpus_of_other_settings_takes_no_import(corpus: Path, tmp_path: Path) -> None:
    export_parquet(corpus, tmp_path / "tiny.parquet")
    run(tmp_path / "other", runs=1, epochs=1)
    with pytest.raises(CorpusError, match="epochs"):
        import_parquet(tmp_path / "tiny.parquet", tmp_path / "other")


@pytest.mark.needs("pyarrow")
def test_parquet_of_480_full_runs_fits_a_repository(tmp_path: Path) -> None:
    from lightning_nndyn.corpus import train_run

    preset, data = get_preset("lenet5-digits"), load_digits_data()
    folder = CorpusFolder(tmp_path)
    folder.open(preset.settings(), {"digits": {}})
    folder.write(train_run(preset.config(360), data))
    export_parquet(tmp_path, tmp_path / "one.parquet")
    fixed_part = 40_000  # schema and column headers, once a file
    assert 480 * ((tmp_path / "one.parquet").stat().st_size - fixed_part) < 20e6


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six epochs a run; the last two runs diverge."""
    folder = tmp_path_factory.mktemp("long") / "corpus"
    run(folder, epochs=6)
    return folder


@pytest.mark.needs("pyarrow")
def test_a_file_of_limited_size_lacks_late_raw_material_alone(long_corpus: Path, tmp_path: Path) -> None:
    whole, thin = tmp_path / "whole.parquet", tmp_path / "thin.parquet"
    assert export_parquet(long_corpus, whole) == np.inf
    size = whole.stat().st_size
    assert export_parquet(long_corpus, thin, max_mb=size / 1e6) == np.inf
    assert thin.read_bytes() == whole.read_bytes()
    horizon = export_parquet(long_corpus, thin, max_mb=0.97 * size / 1e6)
    assert horizon in (1, 2, 3, 5) and thin.stat().st_size <= 0.97 * size
    assert corpus_status(thin) == corpus_status(whole)
    assert texts(thin, raw=False) == texts(whole, raw=False)
    for before, after in zip(load_corpus(whole), load_corpus(thin), strict=True):
        kept = [one.epoch <= horizon or not one.finite for one in before.snapshots]
        assert [bool(layers) for layers in after.weights] == kept
        pairs = zip(before.snapshots, before.weights, after.snapshots, after.weights, kept, strict=True)
        assert all(repr((s, w)) == repr((t, v)) for s, w, t, v, keep in pairs if keep)  # NaN is NaN
        read = [one for one, keep in zip(history_of(before), kept, strict=True) if keep]
        assert repr(history_of(after)) == repr(read)


@pytest.mark.needs("pyarrow")
def test_a_thin_file_is_verified_and_goes_on_as_any_other(long_corpus: Path, tmp_path: Path) -> None:
    thin = tmp_path / "thin.parquet"
    whole = export_parquet(long_corpus, thin)
    assert export_parquet(long_corpus, thin, max_mb=0.97 * thin.stat().st_size / 1e6) < whole
    assert {one.verdict for one in verify_corpus(thin, runs=6)} == {"identical"}
    assert import_parquet(thin, tmp_path / "carried") == 6
    assert texts(tmp_path / "carried") == texts(thin)
    export_parquet(tmp_path / "carried", tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == thin.read_bytes()


@pytest.mark.needs("pyarrow")
def test_a_size_that_cannot_be_kept_is_refused_and_nothing_written(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"6 runs do not fit into max_mb=0\.001"):
        export_parquet(corpus, tmp_path / "tiny.parquet", max_mb=0.001)
    assert not list(tmp_path.iterdir())


@pytest.mark.needs("pyarrow")
def test_parquet_carries_its_version(corpus: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    file = tmp_path / "tiny.parquet"
    export_parquet(corpus, file)
    table = parquet.read_table(file)
    assert table.schema.metadata[b"nndyn_parquet_version"] == b"2"
    metadata = {**table.schema.metadata, b"nndyn_parquet_version": b"7"}
    parquet.write_table(table.replace_schema_metadata(metadata), file)
    with pytest.raises(CorpusError, match="version 7, this package reads 1 and 2"):
        load_corpus(file)


@pytest.mark.needs("pyarrow")
def test_a_parquet_of_before_kinds_were_told_is_read(corpus: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    file = tmp_path / "tiny.parquet"
    export_parquet(corpus, file)
    now = load_corpus(file)
    table = parquet.read_table(file)
    metadata = {**table.schema.metadata, b"nndyn_parquet_version": b"1"}
    old = table.drop_columns(["topology", "kinds", "depth"]).replace_schema_metadata(metadata)
    parquet.write_table(old, file)
    assert {one.kinds for record in now for one in record.snapshots} == {("conv2d", "linear")}
    for raw in (True, False):
        facts = {(s.topology, s.kinds, s.depth) for r in load_corpus(file, raw=raw) for s in r.snapshots}
        assert facts == {("chain", (), 5)}
    assert [history_of(record) for record in load_corpus(file) if record.diverged_epoch is None] == [
        history_of(record) for record in now if record.diverged_epoch is None
    ]


@pytest.mark.needs("pyarrow")
@pytest.mark.parametrize("size", [0, 100, -100])
def test_a_damaged_parquet_is_a_clear_error(corpus: Path, tmp_path: Path, size: int) -> None:
    file = tmp_path / "tiny.parquet"
    export_parquet(corpus, file)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(CorpusError, match=r"tiny\.parquet"):
        load_corpus(file)


def test_without_pyarrow_the_error_names_the_extra(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"lightning-nndyn\[corpus\]"):
        export_parquet(corpus, tmp_path / "tiny.parquet")
