"""The command, and the methods that it knows."""

from pathlib import Path

import pytest
from paths import PRETRAINED
from typer.testing import CliRunner

from lightning_nndyn.cli import app
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation import METHODS, evaluate
from lightning_nndyn.evaluation.result_file import read_rows


@pytest.mark.needs("pyarrow", "matplotlib")
def test_the_command_writes_rows_and_a_summary(tmp_path: Path) -> None:
    corpus = PRETRAINED / "lenet5-digits.parquet"
    arguments = [
        "evaluate",
        str(corpus),
        "--output",
        str(tmp_path),
        "--cache",
        str(tmp_path / "cache"),
        "--method",
        "loss-sum",
        "--method",
        "power-law",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "lenet5-digits: 480 runs, 203 of them trainable" in result.output
    found, _ = read_rows(tmp_path / "predictions.parquet")
    assert {row["method"] for row in found} == {"loss-sum", "power-law"}
    assert "| corpus | loss-sum | power-law |" in (tmp_path / "predictions.md").read_text()


def test_an_unknown_method_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="no method 'oracle': choose from graph-v1, graph-v2"):
        evaluate([], tmp_path, methods=["oracle"])
    assert "oracle" not in METHODS
