"""The command line, run as a user would run it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from typer.testing import CliRunner

from lightning_nndyn.cli import app, main
from lightning_nndyn.study import load_config

runner = CliRunner()


def in_here(*arguments: str) -> int:
    """The command within this process, which has imported everything already; its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["nndyn", *arguments])
        patch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "graph",
        "fit",
        "predict",
        "evaluate",
        "evaluate predictions",
        "evaluate sweep",
        "rank",
        "report",
        "sweep",
        *(f"corpus {name}" for name in "train status verify export import".split()),
    ],
)
def test_each_help_shows_an_example(command: str) -> None:
    result = runner.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"nndyn {command.split()[0]}" in result.output


def test_graph_prints_table_5(capsys: pytest.CaptureFixture[str]) -> None:
    assert in_here("graph", "vgg7") == 0
    assert "1,613 nodes, 304,576 edges" in capsys.readouterr().out


def test_graph_takes_any_function_and_input(capsys: pytest.CaptureFixture[str]) -> None:
    network = "lightning_nndyn.corpus.models:resnet44"
    assert in_here("graph", network, "--input", "3x16x16", "--num-classes", "7") == 0
    assert "1,594 nodes" in capsys.readouterr().out


def test_graph_takes_functions_that_know_no_classes(capsys: pytest.CaptureFixture[str]) -> None:
    for network, said in (
        ("torch.nn:Linear", "cannot be called without further arguments (TypeError: "),
        ("os:getcwd", "returns a str, which is no network"),
    ):
        assert in_here("graph", network) == 2
        assert said in " ".join(capsys.readouterr().err.replace("│", " ").split()), network
    assert in_here("graph", "torch.nn:ReLU") == 1
    network = "torch.nn:Identity"
    assert in_here("graph", network, "--num-classes", "7") == 1  # no layer
    assert "nndyn: " in capsys.readouterr().err


def test_files_that_are_something_else_end_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("hi")
    for command in (
        ["predict", str(tmp_path / "a.txt")],
        ["fit", "--runs", str(tmp_path / "nosuch"), "out"],
        ["fit", str(tmp_path / "a.txt"), "out"],
        ["evaluate", str(tmp_path / "nosuch.parquet")],
        ["sweep", str(tmp_path / "a.txt")],
        ["report", str(tmp_path / "a.txt")],
    ):
        assert in_here(*command) == 1, command
        printed = capsys.readouterr()
        assert printed.err.startswith("nndyn: ") and printed.err.count("\n") == 1 and not printed.out, command


def test_a_corpus_that_ships_is_known_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert in_here("corpus", "status", "lenet5-digits") == 0
    assert "480" in capsys.readouterr().out


def test_a_sweep_to_begin_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert in_here("sweep", "--example") == 0 and load_config(tmp_path / "sweep.yaml").monitor == "val_acc"
    capsys.readouterr()
    assert in_here("sweep", "--example") == 2 and in_here("sweep") == 2


def test_a_mistake_ends_the_real_command_in_words_too() -> None:
    command = [sys.executable, "-m", "lightning_nndyn.cli", "corpus", "status", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "nowhere" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["graph", "nonsense"], "'nonsense' is no network"),
        (["graph", "lenet5", "--input", "3x32x?"], "'3x32x?' is no shape"),
        (["graph", "lenet5", "--input", "4x32x32"], "rejects the example input"),
        (["corpus", "train", "nonsense", "somewhere"], "no preset 'nonsense'"),
        (["corpus", "train", "zoo", "somewhere", "--data", "here"], "imagenet100=FOLDER"),
        (["corpus", "train", "zoo", "somewhere", "--data", "a=b", "--data", "c"], "NAME=FOLDER"),
        (["corpus", "train", "lenet5-digits", "somewhere", "--band-share", "7"], "band_share=7.0"),
        (["corpus", "train", "lenet5-digits", "somewhere", "--backend", "slurm"], "loky, ray, dask"),
        (["corpus", "train", "lenet5-digits", "somewhere", "--device", "abacus"], "'abacus'"),
        (["corpus", "status", "nowhere"], "nowhere"),
        (["corpus", "verify", "nowhere"], "nowhere"),
        (["corpus", "import", "nowhere", "somewhere"], "nowhere"),
        (["fit", "nowhere", "predictor"], "nowhere"),
        (["demo", "--predictor", "nonsense", "--output", "unused"], "no predictor named 'nonsense'"),
    ],
)
def test_mistakes_are_answered_in_words(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert in_here(*arguments) != 0
    printed = capsys.readouterr().err
    assert complaint in printed and "Traceback" not in printed
    assert not list(tmp_path.iterdir())


def test_a_corpus_from_training_to_predictor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two epochs a run are too few to be good at anything, but every file on the way is real."""
    folder, parquet = str(tmp_path / "corpus"), str(tmp_path / "corpus.parquet")
    small = ["--runs", "3", "--epochs", "2", "--jobs", "1", "--images", "256"]
    assert in_here("corpus", "train", "lenet5-digits", folder, *small) == 0
    pytest.importorskip("pyarrow")
    assert in_here("corpus", "export", folder, parquet) == 0
    capsys.readouterr()
    assert in_here("corpus", "status", folder, parquet, "--json") == 0
    from_folder, from_parquet = json.loads(capsys.readouterr().out)
    assert from_folder == from_parquet
    assert (from_folder["runs"], from_folder["epochs"], from_folder["network"]) == (3, 2, "lenet5")
    assert in_here("fit", parquet, str(tmp_path / "predictor")) == 1
    assert "runs" in capsys.readouterr().err  # three runs cannot teach a classifier
    assert not (tmp_path / "predictor.skops").exists()


@pytest.mark.needs("pyarrow")
def test_the_table_in_the_docs_is_what_the_command_prints() -> None:
    root = ROOT
    files = [*sorted(root.glob("pretrained_predictors/*.parquet")), *sorted(root.glob("corpora/*.parquet"))]
    corpora = [*files, root / "corpora" / "sweeps"]
    printed = runner.invoke(app, ["corpus", "status", "--markdown", *map(str, corpora)]).output.strip()
    assert "| lenet5-digits | 480 / 480 |" in printed
    written = (root / "docs" / "reference" / "corpora.md").read_text()
    assert printed in written, "write it anew: make corpora-table"
