"""The paper's tables and figures, measured: its inputs by hand, its scores as scikit-learn computes them."""

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import PRETRAINED
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from lightning_nndyn.corpus import GridPreset, RunRecord, load_digits_data, train_run
from lightning_nndyn.corpus.storage.folder import CorpusFolder
from lightning_nndyn.corpus.training.sources import describe
from lightning_nndyn.evaluation import METHODS, Row, Study, evaluate
from lightning_nndyn.evaluation.benchmark.compare import folds
from lightning_nndyn.evaluation.benchmark.tables import Table
from lightning_nndyn.evaluation.paper.classification import classification, fitted
from lightning_nndyn.evaluation.paper.experiments import (
    MAIN,
    PAPER_METHODS,
    paper_rows,
    unseen_rows,
)
from lightning_nndyn.evaluation.paper.feature_analysis import ANALYSED, CURVES, curves, importance
from lightning_nndyn.evaluation.paper.features import (
    SETTINGS,
    Setting,
    epochs_read,
    signatures,
    snapshot_pairs,
    without_raw_material,
)
from lightning_nndyn.evaluation.paper.figures import draw_paper
from lightning_nndyn.evaluation.paper.published_numbers import (
    CLAIMS,
    PAIRS,
    TABLE_3,
    TABLE_4,
    printed_regression,
    subject_of,
)
from lightning_nndyn.evaluation.paper.regression import REGRESSIONS, Regression, regression
from lightning_nndyn.evaluation.paper.tables import chapters, paper_report
from lightning_nndyn.evaluation.paper.unseen_architectures import pairings, unseen
from lightning_nndyn.signature.snapshot import STATISTICS

pytestmark = pytest.mark.needs("pyarrow")

CORPUS = PRETRAINED / "lenet5-digits.parquet"
MLP = {
    "kind": "mlp", "widths": (32,), "activation": "relu", "normalisation": "none", "residual": False,
    "init_scale": 1.0,
}  # fmt: skip


def some(study: Study, places: Any) -> Study:
    records = tuple(study.records[place] for place in places)
    return Study(
        study.name, records, study.accuracies[places], study.thresholds[places], study.trainable[places]
    )


@pytest.fixture(scope="module")
def study() -> Study:
    """LeNet on digits: every sixth of the shipped runs."""
    return without_raw_material(some(Study.load(CORPUS), np.arange(0, 480, 6)))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Multi-layer perceptrons on digits: another network on the same data."""
    rates = tuple(np.logspace(-2.5, -0.3, 20).tolist())
    preset = GridPreset(
        "mlp-digits", "zoo_network", "digits", learning_rates=rates, dropouts=(0.0,), crop_padding=0,
        flip=False, epochs=2, batch_size=128, low_threshold=0.7,
    )  # fmt: skip
    data = load_digits_data()
    folder = CorpusFolder(tmp_path_factory.mktemp("corpora") / preset.name)
    folder.open(preset.settings(), {"digits": describe(data)})
    for index in range(20):
        folder.write(train_run(replace(preset.config(index), network_options=MLP), data))
    return folder.folder


@pytest.fixture(scope="module")
def perceptrons(corpus: Path) -> Study:
    return without_raw_material(Study.load(corpus))


def with_statistics(study: Study, made: Callable[[int, float], Any]) -> Study:
    """The same runs with other statistics, by run and epoch."""

    def changed(place: int, record: RunRecord) -> RunRecord:
        snapshots = [
            replace(one, statistics=tuple(map(float, made(place, one.epoch)))) for one in record.snapshots
        ]
        return replace(record, snapshots=snapshots)

    return replace(study, records=tuple(changed(*one) for one in enumerate(study.records)))


def statistics(record: RunRecord, epoch: float) -> np.ndarray:
    return np.array(next(one.statistics for one in record.snapshots if one.epoch == epoch))


def fold_numbers(study: Study) -> PredefinedSplit:
    numbers = np.empty(len(study.records), int)
    for number, test in enumerate(folds(study.groups, 0)):
        numbers[test] = number
    return PredefinedSplit(numbers)


def values(rows: Any) -> dict[tuple[str, str, float, str], float]:
    return {(row.band, row.method, row.t, row.metric): row.value for row in rows}


# --- What is read -------------------------------------------------------------------------------------------


def test_the_bare_names_are_degree_and_plain() -> None:
    assert SETTINGS["graph-paper-svm"] == Setting("svm", "degree", "plain")
    assert SETTINGS["graph-paper-mlp-eigenvector-plain"] == Setting("mlp", "eigenvector", "plain")
    assert len(SETTINGS) == 12 and set(MAIN) == {"graph-paper-svm", "graph-paper-mlp"}
    assert len({*PAPER_METHODS, *METHODS}) == len(PAPER_METHODS) + len(METHODS)


def test_a_signature_is_the_statistics_of_epochs_one_after_the_other(study: Study) -> None:
    places = np.array([3, 40])
    epochs = epochs_read(study.records, 3.0)
    assert epochs == [1.0, 2.0, 3.0] and epochs_read(study.records, 1 / 8) == [1 / 16, 1 / 8]
    by_hand = [
        np.concatenate([statistics(study.records[place], epoch)[:5] for epoch in (0, 1, 2, 3)])
        for place in places
    ]
    assert (signatures(study, places, epochs, "degree", "plain") == by_hand).all()


def test_the_forms_are_weighted_means_of_what_was(study: Study) -> None:
    first, second, third = (statistics(study.records[40], epoch)[5:] for epoch in (0, 1, 2))
    place = np.array([40])
    linear = signatures(study, place, [1.0, 2.0], "eigenvector", "linear")[0]
    assert linear[-5:] == pytest.approx((first + 2 * second + 3 * third) / 6)
    exponential = signatures(study, place, [1.0, 2.0], "eigenvector", "exponential")[0]
    assert exponential[-5:] == pytest.approx(third / 2 + second / 4 + first / 4)


def test_epochs_that_a_run_was_not_read_at_are_not_asked_for(study: Study) -> None:
    first = study.records[0]
    gap = replace(first, snapshots=[one for one in first.snapshots if one.epoch != 2])
    assert epochs_read([gap, study.records[1]], 4.0) == [1.0, 3.0, 4.0]


@pytest.mark.parametrize("pair", [(0, 2), (1, 3)])
def test_a_pair_is_two_epochs_and_nothing_else(study: Study, pair: tuple[int, int]) -> None:
    found = snapshot_pairs(study, np.array([40]), pair, "degree")[0]
    assert (found == np.concatenate([statistics(study.records[40], epoch)[:5] for epoch in pair])).all()


# --- Classification and regression --------------------------------------------------------------------------


def test_classification_is_what_scikit_learn_cross_validates(study: Study) -> None:
    rows = list(classification(study, [Setting("svm", "eigenvector")], times=[7.0], seed=0, jobs=1))
    x = signatures(study, np.arange(80), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], "eigenvector", "plain")
    model = make_pipeline(StandardScaler(), SVC())
    decided = cross_val_predict(model, x, study.low, cv=fold_numbers(study), method="decision_function")
    found = values(rows)
    name = "graph-paper-svm-eigenvector-plain"
    assert found["all", name, 7.0, "accuracy"] == pytest.approx(((decided > 0) == study.low).mean(), abs=1e-5)
    assert found["all", name, 7.0, "auc"] == pytest.approx(roc_auc_score(study.low, decided), abs=1e-5)
    own = study.trainable
    right = ((decided > 0) == study.low)[own].mean()
    assert found["trainable", name, 7.0, "accuracy"] == pytest.approx(right, abs=1e-5)
    assert found["all", "majority", 7.0, "accuracy"] == pytest.approx(study.low.mean())
    assert all(row.low <= row.value <= row.high for row in rows)


def test_where_all_are_of_one_class_all_others_are_called_the_same() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3))
    for low in (True, False):
        decided = fitted("svm", x, np.full(6, low), 0)(x)
        assert ((decided > 0) == low).all()


def test_runs_that_explode_stay_in_and_break_nothing(study: Study) -> None:
    """Single-precision weights end at 3e38; skewness and kurtosis stay small."""
    size = np.array([1e38, 1e38, 1e38, 9.0, 99.0] * 2)
    exploding = with_statistics(
        study,
        lambda place, epoch: (
            size if place % 9 == 0 and epoch >= 1 else statistics(study.records[place], epoch)
        ),
    )
    settings = [SETTINGS["graph-paper-svm"], SETTINGS["graph-paper-mlp"]]
    rows = list(classification(exploding, settings, times=[3.0], seed=0, jobs=1))
    rows += regression(exploding, [Regression("degree", (1, 3))], seed=0, jobs=1)
    own = [row for row in rows if row.band == "all"]
    assert len(own) == 7 and {row.runs for row in own} == {80}
    assert all(math.isfinite(row.value) for row in own)
    assert values(own)["all", "graph-paper-regression-degree-1-3", 3.0, "mae"] < 1


def test_regression_is_what_scikit_learn_cross_validates(study: Study) -> None:
    one = Regression("degree", (5, 7))
    found = values(regression(study, [one], seed=0, jobs=1))
    x = snapshot_pairs(study, np.arange(80), (5, 7), "degree")
    model = make_pipeline(StandardScaler(), LinearRegression())
    predicted = np.clip(cross_val_predict(model, x, study.accuracies, cv=fold_numbers(study)), 0, 1)
    error = mean_absolute_error(study.accuracies, predicted)
    assert found["all", one.name, 7.0, "mae"] == pytest.approx(error, abs=1e-5)
    assert found["all", one.name, 7.0, "r2"] == pytest.approx(r2_score(study.accuracies, predicted), abs=1e-5)


def test_pairs_are_those_of_both_tables() -> None:
    assert PAIRS == ((0, 2), (0, 3), (1, 3), (3, 5), (5, 7), (7, 9))
    assert {one.pair for one in REGRESSIONS.values()} == set(PAIRS) and len(REGRESSIONS) == 12
    assert printed_regression(("lenet5", "cifar10")) == ("4", TABLE_4["lenet5", "cifar10"])
    assert TABLE_4["lenet5", "cifar10"][5, 7] == (12.49, 0.75)
    assert printed_regression(("resnet50", "imagenet100")) == ("3", TABLE_3["resnet50", "imagenet100"])
    assert printed_regression(("lenet5", "digits")) is None and printed_regression(None) is None


# --- Features -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANALYSED)
def test_the_one_statistic_that_tells_is_the_important_one(study: Study, name: str) -> None:
    random = np.random.default_rng(0)
    mean, constant = STATISTICS.index("degree_mean"), STATISTICS.index("degree_kurtosis")

    def made(place: int, epoch: float) -> np.ndarray:
        row = random.normal(size=10)
        row[mean], row[constant] = 10.0 * study.low[place], 3.0
        return row

    rows = list(importance(with_statistics(study, made), [ANALYSED[name]], seed=0, jobs=1))
    assert {row.t for row in rows} == {1.0, 5.0, 15.0} and len(rows) == 30
    lost = {row.metric: row.value for row in rows if row.t == 1}
    assert lost["importance of degree_mean"] > 0.1
    assert lost["importance of degree_mean"] == max(lost.values())
    assert lost["importance of degree_kurtosis"] == 0


def test_curves_are_means_and_medians_of_high_and_low_runs(study: Study) -> None:
    found = values(curves(study, list(CURVES), times=[5.0], seed=0))
    at = np.array([statistics(record, 5.0) for record in study.records])
    for place, name in enumerate(STATISTICS):
        high, low = at[~study.low, place], at[study.low, place]
        assert found["all", "mean-of-high", 5.0, name] == pytest.approx(high.mean(), abs=1e-5)
        assert found["all", "median-of-low", 5.0, name] == pytest.approx(np.median(low), abs=1e-5)
    assert len(found) == 4 * 2 * 10  # before training, too


# --- Networks never seen ------------------------------------------------------------------------------------


def test_corpora_are_paired_across_networks_on_one_data_set(study: Study, perceptrons: Study) -> None:
    def renamed(name: str, network: str, dataset: str = "digits") -> Study:
        records = [
            replace(one, config=one.config | {"network": network, "dataset": dataset})
            for one in study.records[:3]
        ]
        return replace(some(study, np.arange(3)), name=name, records=tuple(records))

    again, third, far = (
        renamed("again", "lenet5"),
        renamed("third", "vgg7"),
        renamed("far", "vgg7", "cifar10"),
    )
    assert subject_of(far) == ("vgg7", "cifar10")
    found = [
        ([source.name for source in sources], tested.name)
        for sources, tested in pairings([study, again, third, far])
    ]
    assert found == [
        (["third"], "lenet5-digits"),
        (["third"], "again"),
        (["lenet5-digits"], "third"),
        (["again"], "third"),
        (["lenet5-digits", "again"], "third"),
    ]


def test_a_corpus_of_several_networks_is_not_paired(perceptrons: Study, study: Study) -> None:
    first = perceptrons.records[0]
    wider = replace(
        first, config=first.config | {"network_options": first.config["network_options"] | {"widths": (64,)}}
    )
    mixed = replace(perceptrons, records=(wider, *perceptrons.records[1:]))
    assert subject_of(perceptrons) == ("zoo_network", "digits") and subject_of(mixed) is None
    assert list(pairings([study, mixed])) == []


def test_another_networks_runs_are_classified_by_the_tested_corpus_threshold(
    study: Study, perceptrons: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning_nndyn.evaluation.paper import unseen_architectures

    seen: list[tuple[int, int]] = []

    def noted(kind: Any, x: Any, low: Any, seed: int) -> Any:
        seen.append((len(x), int(low.sum())))
        return fitted(kind, x, low, seed)

    monkeypatch.setattr(unseen_architectures, "fitted", noted)
    rows = list(unseen([study, perceptrons], [SETTINGS["graph-paper-svm"]], times=[1.0], seed=0, jobs=1))
    good = int((study.accuracies >= 0.7).sum())  # not 0.5, the training corpus's own
    own = [row for row in rows if row.corpus == "mlp-digits"]
    assert seen[5:] == [(2 * good, good)] * 5
    assert {(row.band, row.runs) for row in own} == {("from lenet5-digits", 20)}
    assert [(row.method, row.metric) for row in own] == [
        ("majority", "accuracy"), ("graph-paper-svm", "accuracy"), ("graph-paper-svm", "auc")
    ]  # fmt: skip
    assert {row.band for row in rows if row.corpus == "lenet5-digits"} == {"from mlp-digits"}


def test_a_network_whose_twin_was_seen_is_no_riddle(perceptrons: Study) -> None:
    """The paper's first experiment at its easiest: the same runs, told to be of another network."""
    records = [replace(one, config=one.config | {"network": "other"}) for one in perceptrons.records]
    twin = replace(perceptrons, name="twin", records=tuple(records))
    found = values(unseen([perceptrons, twin], [SETTINGS["graph-paper-mlp"]], times=[2.0], seed=0, jobs=1))
    assert found["from twin", "graph-paper-mlp", 2.0, "accuracy"] > 0.9
    assert found["from twin", "graph-paper-mlp", 2.0, "auc"] > 0.95


# --- Files --------------------------------------------------------------------------------------------------

CHOSEN = [
    "graph-paper-svm", "graph-paper-regression-degree-1-3", "graph-paper-svm-both-plain",
    "mean-of-high", "mean-of-low",
]  # fmt: skip


@pytest.fixture(scope="module")
def rows(study: Study, perceptrons: Study) -> list[Row]:
    settings: Any = {"methods": CHOSEN, "times": [1.0], "seed": 0, "jobs": 1}
    return [*paper_rows(study, **settings), *unseen_rows([study, perceptrons], **settings)]


def test_more_processes_give_the_same_rows(study: Study, rows: list[Row]) -> None:
    again = list(paper_rows(study, methods=CHOSEN[:2], times=[1.0], seed=0, jobs=2))
    assert again == rows[: len(again)] and {row.method for row in again} == {*CHOSEN[:2], "majority"}


def test_a_sentence_of_the_paper_stands_beside_what_came_out(study: Study) -> None:
    found = list(
        classification(
            study, [SETTINGS["graph-paper-svm"], SETTINGS["graph-paper-mlp"]], times=[5.0], seed=0, jobs=1
        )
    )
    name, kind = max(
        (
            (row.value, row.method[-3:].upper())
            for row in found
            if row.method in MAIN and row.metric == "accuracy" and row.band == "all"
        ),
    )
    (chapter,) = chapters(found, {"lenet5-digits": ("lenet5", "cifar10")})
    table = next(one for one in chapter.tables if one.name == "lenet5-digits-paper-claims")
    here, majority = f"{100 * name:.1f} ({kind}, 5 epochs)", f"{100 * study.low.mean():.1f}"
    assert table.lines[0] == ["abstract", "degree", "the better", "5", "over 93 %", here, majority]
    assert len(table.lines) == sum(("lenet5", "cifar10") in claim.subjects for claim in CLAIMS)


def test_every_chapter_has_a_table_a_paragraph_and_its_numbers(rows: list[Row]) -> None:
    found = chapters(rows, {"lenet5-digits": ("lenet5", "cifar10")})
    page = paper_report(found)
    assert [chapter.title.partition(":")[0] for chapter in found] == [
        "Classification", "Regression", "Networks never seen", "Importance of the statistics",
        "Statistics over time",
    ]  # fmt: skip
    error = values(rows)["all", "graph-paper-regression-degree-1-3", 3.0, "mae"]
    assert f"| 1-3 | {100 * error:.2f} |" in page and "| 14.67 | 0.30 |" in page
    assert all(chapter.text in page for chapter in found)
    assert chapters([], {}) == [] and paper_report([]) == ""


@pytest.mark.needs("matplotlib")
def test_figures_are_drawn_for_what_has_rows(rows: list[Row], tmp_path: Path) -> None:
    draw_paper(rows, tmp_path)
    linked = {table.figure for chapter in chapters(rows, {}) for table in chapter.tables} - {""}
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
