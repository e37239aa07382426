"""Runs of the preset `sweeps`: trained, repeated, recorded, carried in several files."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lightning_nndyn.cli import app
from lightning_nndyn.corpus import (
    RunRecord,
    SweepPreset,
    corpus_status,
    export_parquet,
    export_parts,
    import_parquet,
    load_corpus,
    load_digits_data,
    run_corpus,
    train_run,
    verify_corpus,
)
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.status import low_thresholds
from lightning_nndyn.corpus.storage.record import CURVES, WEIGHT_STATISTICS
from lightning_nndyn.corpus.training.run_data import array_data
from lightning_nndyn.errors import CorpusError
from lightning_nndyn.evaluation.dataset import history_of
from lightning_nndyn.sweep import movement_since_start

WHOLE = SweepPreset("sweeps", epochs=40)


def first_run(family: str, dataset: str) -> RunConfig:
    configs = map(WHOLE.config, range(len(WHOLE)))
    return next(config for config in configs if (config.family, config.dataset) == (family, dataset))


@dataclass(frozen=True)
class Few(SweepPreset):
    """Three short runs of each of three sweeps that need no download."""

    @property
    def datasets(self) -> tuple[str, ...]:
        return ("digits", "languages", "moons")

    def config(self, index: int, sampling: str = "grid") -> RunConfig:
        return replace(super().config(index, sampling), images=64, test_images=100, batch_size=16)

    def order(self, band_share: float = 0.0) -> list[tuple[int, str]]:
        wanted = (("resnet", "digits"), ("lstm", "languages"), ("mlp", "moons"))
        starts = [first_run(*pair).index for pair in wanted]
        return [(start + run, "grid") for start in sorted(starts) for run in range(3)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweeps") / "corpus"
    run_corpus(Few("few", epochs=6), folder, jobs=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def records(corpus: Path) -> list[RunRecord]:
    return load_corpus(corpus)


def texts(records: list[RunRecord]) -> list[str]:
    return [json.dumps(record.to_dict()) for record in records]


@pytest.mark.parametrize(
    ("family", "dataset"), [("resnet", "digits"), ("transformer", "languages"), ("mlp", "moons")]
)
def test_a_run_repeats_to_the_last_bit(family: str, dataset: str) -> None:
    config = replace(first_run(family, dataset), epochs=2, images=128)
    data = load_digits_data() if dataset == "digits" else array_data(dataset)
    first, second = (train_run(config, data).to_dict() for _ in range(2))
    assert first["reason"] == "all epochs trained" and first["flow"]
    for record in (first, second):
        del record["seconds"], record["curve"]["seconds"]
    assert json.dumps(first) == json.dumps(second)
    other = train_run(replace(config, seed=config.seed + 1), data)
    assert other.curve["train_loss"] != first["curve"]["train_loss"]


def test_both_graphs_are_read_with_the_schedules_place(records: list[RunRecord]) -> None:
    assert len(records) == 9 and not any(record.failed for record in records)
    for record in records:
        times = [snapshot.epoch for snapshot in record.snapshots]
        assert times == [0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 3, 4, 5, 6]
        assert {snapshot.topology for snapshot in record.snapshots} == {"chain"}
        assert [snapshot.epoch for snapshot in record.flow] == (times if record.flow else [])
        assert {snapshot.topology for snapshot in record.flow} <= {"dataflow"}
        factors, progress = zip(*record.schedule, strict=True)
        assert progress[5:] == pytest.approx([epoch / 6 for epoch in range(1, 7)])
        assert progress[:2] == (0.0, 1 / 24) and all(0 <= factor <= 1 for factor in factors)
        assert len(record.curve["test_accuracy"]) == record.config["epochs"] == 6
    assert {record.config["family"] for record in records if record.flow} >= {"resnet"}


def test_raw_material_is_kept_of_four_epochs(records: list[RunRecord]) -> None:
    for record in records:
        for snapshots in filter(None, (record.snapshots, record.flow)):
            assert [bool(one.layers) for one in snapshots] == [one.epoch <= 4 for one in snapshots]
        assert [bool(one) for one in record.weights] == [one.epoch <= 4 for one in record.snapshots]


def test_a_run_is_low_by_the_best_of_its_sweep(corpus: Path, records: list[RunRecord]) -> None:
    thresholds = low_thresholds({"low_share": 0.5}, records)
    for sweep in {record.config["sweep"] for record in records}:
        own = [record for record in records if record.config["sweep"] == sweep]
        best, guess = max(one.best_accuracy for one in own), own[0].config["guess"]
        threshold = {thresholds[records.index(one)] for one in own}
        assert threshold == {guess + 0.5 * max(0.0, best - guess)}
    status = corpus_status(corpus)
    assert status["runs"] == 9 and 0 <= status["low_share"] <= 1


def test_it_goes_on_where_it_was(corpus: Path, records: list[RunRecord]) -> None:
    gone = sorted((corpus / "runs").iterdir())[4]
    gone.unlink()
    run_corpus(Few("few", epochs=6), corpus, jobs=1, progress=False)
    again = load_corpus(corpus)
    for record in (*records, *again):
        record.seconds, record.curve["seconds"] = 0.0, []
    assert texts(again) == texts(records)


@pytest.mark.needs("pyarrow")
def test_verified_from_a_file(corpus: Path, tmp_path: Path) -> None:
    file = tmp_path / "few.parquet"
    assert export_parquet(corpus, file) == np.inf
    assert texts(load_corpus(file)) == texts(load_corpus(corpus))
    assert {one.verdict for one in verify_corpus(file, runs=3)} == {"identical"}


@pytest.mark.needs("pyarrow")
def test_several_files_hold_whole_sweeps(corpus: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    export_parquet(corpus, whole)
    limit = 0.8 * whole.stat().st_size / 1e6
    (tmp_path / "sweeps-007.parquet").write_bytes(b"of an earlier export")
    files = export_parts(corpus, tmp_path / "sweeps.parquet", max_mb=limit)
    assert [file.name for file in files] == [f"sweeps-{part:03d}.parquet" for part in range(len(files))]
    assert sorted(tmp_path.glob("sweeps-*")) == files and len(files) in (2, 3)
    assert all(file.stat().st_size <= 1e6 * limit for file in files)
    parts = [load_corpus(file) for file in files]
    assert texts([record for part in parts for record in part]) == texts(load_corpus(corpus))
    sweeps = [{record.config["sweep"] for record in part} for part in parts]
    assert sum(map(len, sweeps)) == len(set.union(*sweeps)) == 3
    together = tmp_path / "parts"
    together.mkdir()
    for file in files:
        (together / file.name).write_bytes(file.read_bytes())
    assert texts(load_corpus(together)) == texts(load_corpus(corpus))
    assert corpus_status(together) == corpus_status(corpus)
    assert import_parquet(together, tmp_path / "at once") == 9
    imported = [import_parquet(file, tmp_path / "again") for file in files]
    assert sum(imported) == 9 and texts(load_corpus(tmp_path / "again")) == texts(load_corpus(corpus))
    with pytest.raises(CorpusError, match="kept together"):
        export_parts(corpus, tmp_path / "tiny.parquet", max_mb=0.001)


@pytest.mark.needs("pyarrow")
def test_files_of_two_corpora_in_one_folder_are_refused(corpus: Path, tmp_path: Path) -> None:
    export_parquet(corpus, tmp_path / "first.parquet")
    manifest = json.loads((corpus / "corpus.json").read_text())
    manifest["settings"]["epochs"] += 1
    other = tmp_path / "other"
    shutil.copytree(corpus, other)
    (other / "corpus.json").write_text(json.dumps(manifest))
    export_parquet(other, tmp_path / "second.parquet")
    shutil.rmtree(other)
    with pytest.raises(CorpusError, match=r"second.parquet is of another corpus than first.parquet"):
        load_corpus(tmp_path)
    with pytest.raises(CorpusError, match=r"no corpus.json"):
        load_corpus(tmp_path / "..")


@pytest.mark.needs("pyarrow")
def test_the_command_line_splits(corpus: Path, tmp_path: Path) -> None:
    arguments = ["corpus", "export", str(corpus), str(tmp_path / "few.parquet"), "--split"]
    result = CliRunner().invoke(app, [*arguments, "--max-mb", "20"])
    assert result.exit_code == 0 and "few-000.parquet" in result.output
    assert CliRunner().invoke(app, arguments).exit_code != 0


def test_records_of_today_are_read_without_what_came_later(records: list[RunRecord]) -> None:
    plain = records[0].to_dict()
    del plain["flow"], plain["schedule"]
    old = RunRecord.from_dict(plain)
    assert old.flow == [] and old.schedule == [] and set(old.curve) == set(CURVES)


def test_each_layer_of_a_chain_has_the_distance_of_its_own_parameters(corpus: Path) -> None:
    """Those of an LSTM have no parameter of the layer's name, and a shortcut's weights belong to no layer."""
    for record in load_corpus(corpus):
        first, *later = history_of(record)
        for snapshot in later:
            assert len(snapshot.distances) == len(snapshot.layers) - 1 and min(snapshot.distances) > 0
            assert np.isfinite(movement_since_start(first, snapshot)).all()
        if record.config["family"] == "lstm":
            weights = record.weights[1]
            parts = [name for name in weights if name.startswith("1.cells.") and name.endswith("_l0")]
            assert len(parts) == 2
            moved, norms = (
                sum(layers[name][WEIGHT_STATISTICS.index(column)] ** 2 for name in parts) ** 0.5
                for layers, column in ((weights, "distance"), (record.weights[0], "norm"))
            )
            place = [*first.layers].index("1.cells.l0") - 1
            assert later[0].distances[place] == pytest.approx(moved / norms, rel=1e-6)
