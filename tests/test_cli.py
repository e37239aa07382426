"""The command line, run as a user would run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lightning_nndyn.cli import app

runner = CliRunner()


def nndyn(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The real command, in a process of its own."""
    command = [sys.executable, "-m", "lightning_nndyn.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "160"})


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
        "report",
        *(f"corpus {name}" for name in "train status verify export import".split()),
    ],
)
def test_each_help_shows_an_example(command: str) -> None:
    result = runner.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"nndyn {command.split()[0]}" in result.output


def test_graph_prints_table_5() -> None:
    done = nndyn("graph", "vgg7")
    assert done.returncode == 0, done.stderr
    assert "1,613 nodes, 304,576 edges" in done.stdout


def test_graph_takes_any_function_and_input() -> None:
    done = nndyn("graph", "lightning_nndyn.models:resnet44", "--input", "3x16x16", "--num-classes", "7")
    assert done.returncode == 0, done.stderr
    assert "1,594 nodes" in done.stdout


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
        (["corpus", "train", "lenet5-digits", "somewhere", "--pack", "0"], "pack=0"),
        (["corpus", "status", "nowhere"], "nowhere"),
        (["corpus", "verify", "nowhere"], "nowhere"),
        (["corpus", "import", "nowhere", "somewhere"], "nowhere"),
        (["fit", "nowhere", "predictor"], "nowhere"),
        (["demo", "--predictor", "nonsense", "--output", "unused"], "no predictor named 'nonsense'"),
    ],
)
def test_mistakes_are_answered_in_words(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lightning_nndyn.cli", *arguments]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_corpus_from_training_to_predictor(tmp_path: Path) -> None:
    """Two epochs a run are too few to be good at anything, but every file on the way is real."""
    folder, parquet = str(tmp_path / "corpus"), str(tmp_path / "corpus.parquet")
    trained = nndyn("corpus", "train", "lenet5-digits", folder, "--runs", "3", "--epochs", "2", "--jobs", "1")
    assert trained.returncode == 0, trained.stderr
    pytest.importorskip("pyarrow")
    assert nndyn("corpus", "export", folder, parquet).returncode == 0
    state = nndyn("corpus", "status", folder, parquet, "--json")
    from_folder, from_parquet = json.loads(state.stdout)
    assert from_folder == from_parquet
    assert (from_folder["runs"], from_folder["epochs"], from_folder["network"]) == (3, 2, "lenet5")
    refused = nndyn("fit", parquet, str(tmp_path / "predictor"))
    assert refused.returncode == 1
    assert "runs" in refused.stderr  # three runs cannot teach a classifier
    assert not (tmp_path / "predictor.skops").exists()


@pytest.mark.needs("pyarrow")
def test_the_table_in_the_docs_is_what_the_command_prints() -> None:
    root = Path(__file__).parent.parent
    corpora = [*sorted(root.glob("pretrained_predictors/*.parquet")), *sorted(root.glob("corpora/*.parquet"))]
    printed = runner.invoke(app, ["corpus", "status", "--markdown", *map(str, corpora)]).output.strip()
    assert "| lenet5-digits | 480 / 480 |" in printed
    written = (root / "docs" / "corpora.md").read_text()
    assert printed in written, "write it anew: make corpora-table"
