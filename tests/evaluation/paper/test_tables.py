"""Tables and figures beside the paper's, and the command that writes them."""

import csv
import json
from pathlib import Path

import pytest
from paper_material import values

from lightning_nndyn.evaluation import Row, RunDataset, evaluate
from lightning_nndyn.evaluation.benchmark.tables import Table, results_page
from lightning_nndyn.evaluation.paper import (
    MAIN,
)
from lightning_nndyn.evaluation.paper.classification import classification
from lightning_nndyn.evaluation.paper.features import (
    SETTINGS,
)
from lightning_nndyn.evaluation.paper.figures import draw_paper
from lightning_nndyn.evaluation.paper.published_numbers import (
    CLAIMS,
)
from lightning_nndyn.evaluation.paper.tables import paper_chapters

pytestmark = pytest.mark.needs("pyarrow")


def test_a_sentence_of_the_paper_stands_beside_what_came_out(study: RunDataset) -> None:
    found = list(
        classification(study, [SETTINGS["graph-paper-svm"], SETTINGS["graph-paper-mlp"]], times=[5.0], seed=0)
    )
    name, kind = max(
        (
            (row.value, row.method[-3:].upper())
            for row in found
            if row.method in MAIN and row.metric == "accuracy" and row.band == "all"
        ),
    )
    chapters = paper_chapters(found, {"lenet5-digits": ("lenet5", "cifar10")})
    assert [name for name, tables in chapters.items() if tables] == ["classification"]
    table = next(one for one in chapters["classification"] if one.name == "lenet5-digits-paper-claims")
    here, majority = f"{100 * name:.1f} ({kind}, 5 epochs)", f"{100 * study.low.mean():.1f}"
    assert table.lines[0] == ["abstract", "degree", "the better", "5", "over 93 %", here, majority]
    assert len(table.lines) == sum(("lenet5", "cifar10") in claim.subjects for claim in CLAIMS)


def test_every_chapter_has_a_table_a_paragraph_and_its_numbers(rows: list[Row]) -> None:
    found = paper_chapters(rows, {"lenet5-digits": ("lenet5", "cifar10")})
    assert all(found.values())
    page = results_page([], {}, found)
    for title in (
        "Classification",
        "Regression",
        "Networks never seen",
        "Importance of the st",
        "Statistics ov",
    ):
        assert f"\n### {title}" in page
    error = values(rows)["all", "graph-paper-regression-degree-1-3", 3.0, "mae"]
    assert f"| 1-3 | {100 * error:.2f} |" in page and "| 14.67 | 0.30 |" in page
    assert results_page([], {}, paper_chapters([], {})) == ""


@pytest.mark.needs("matplotlib")
def test_figures_are_drawn_for_what_has_rows(rows: list[Row], tmp_path: Path) -> None:
    draw_paper(rows, tmp_path)
    linked = {table.figure for tables in paper_chapters(rows, {}).values() for table in tables} - {""}
    assert {file.stem for file in tmp_path.iterdir()} == linked
    assert {
        f"lenet5-digits-paper-{kind}" for kind in ("classification-all", "unseen", "importance", "curves")
    } <= linked


def test_a_table_as_csv_has_the_same_cells() -> None:
    table = Table("t", "T", ["after", "1, say"], [["a", "**3.0**"], ["b", "2.0"]])
    assert list(csv.reader(table.csv().splitlines())) == [["after", "1, say"], ["a", "3.0"], ["b", "2.0"]]
    assert "| a | **3.0** |" in table.markdown()


@pytest.mark.needs("matplotlib")
def test_one_call_writes_rows_pages_tables_and_figures_and_repeats_itself(
    corpus: Path, tmp_path: Path
) -> None:
    methods = ["last-accuracy", "graph-paper-svm", "graph-paper-regression-degree-0-2"]
    for folder in ("one", "two"):
        evaluate([corpus], tmp_path / folder, methods=methods, times=[1.0])
    files = {str(file.relative_to(tmp_path / "one")) for file in (tmp_path / "one").rglob("*.*")}
    assert files == {
        "results.json",
        "results-parts.json",
        "results.md",
        *(f"{kind}/mlp-digits-all-{metric}.{ending}"
          for kind, ending in (("tables", "csv"), ("figures", "png")) for metric in ("mae", "spearman")),
        "tables/mlp-digits-all-auc.csv",
        "tables/mlp-digits-paper-classification-all.csv",
        "tables/mlp-digits-paper-regression-all.csv",
        "figures/mlp-digits-paper-classification-all.png",
    } | {file.replace("-all", "-trainable") for file in files if "-trainable" in file}  # fmt: skip
    assert all(
        (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files
    )
    written = json.loads((tmp_path / "one" / "results.json").read_text())
    assert {row["method"] for row in written} == {*methods, "majority"}


def test_the_comparison_and_what_is_beside_the_paper_keep_apart(corpus: Path, tmp_path: Path) -> None:
    evaluate([corpus], tmp_path, methods=["last-accuracy", "graph-paper-svm"], times=[1.0])
    comparison, beside = (tmp_path / "results.md").read_text().split("## Side by side with the paper")
    assert "| last-accuracy |" in comparison and "| graph-paper-svm |" not in comparison
    assert "| last-accuracy |" in beside and "| graph-paper-svm |" in beside  # one is held against the other
