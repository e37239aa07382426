"""Methods side by side: folds that leak nothing, scores as others compute them, files that tell."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import PRETRAINED
from scipy import stats
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score
from typer.testing import CliRunner

from lightning_nndyn.cli import app
from lightning_nndyn.corpus import GridPreset, RunRecord, load_digits_data, train_run
from lightning_nndyn.corpus.storage.thinning import thinned
from lightning_nndyn.corpus.training.sources import describe
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation import METHODS, Row, Study, compare, evaluate, transfer
from lightning_nndyn.evaluation.benchmark.compare import folds, table
from lightning_nndyn.evaluation.benchmark.curve_baselines import (
    extrapolate,
    last_accuracy,
    loss_sum,
    one_epoch,
    power_law,
)
from lightning_nndyn.evaluation.benchmark.evaluate import with_tables
from lightning_nndyn.evaluation.benchmark.learners import Learner
from lightning_nndyn.evaluation.benchmark.method_features import INPUTS, curves, distances, graph_v2, losses
from lightning_nndyn.evaluation.benchmark.scores import Outcome, accuracy, auc, mae, r2, scored, spearman
from lightning_nndyn.evaluation.benchmark.tables import markdown_table, read_rows, write_rows
from lightning_nndyn.evaluation.benchmark.transfer import relative_accuracies

PRESET = GridPreset(
    "small", "lenet5", "digits", learning_rates=tuple(np.logspace(-4, -0.5, 12).tolist()),
    dropouts=(0.0, 0.3), crop_padding=1, flip=False, epochs=3, batch_size=32, low_threshold=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    data = load_digits_data()
    return [train_run(PRESET.config(index), data) for index in range(len(PRESET))]


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return {"settings": PRESET.settings(), "data": {"digits": describe(load_digits_data())}}


@pytest.fixture(scope="module")
def study(records: list[RunRecord], manifest: dict[str, Any]) -> Study:
    return Study.of(records, manifest)


def test_a_study_knows_truth_bands_and_what_was_read_when(study: Study, records: list[RunRecord]) -> None:
    assert study.accuracies.tolist() == [record.best_accuracy for record in records]
    assert (study.low == (study.accuracies < 0.5)).all() and 0 < study.low.sum() < 24
    assert (study.trainable == (study.accuracies >= 0.2)).all()
    assert study.at(1 / 16).tolist() == study.at(3.0).tolist() == list(range(24))
    assert study.at(4.0).tolist() == []


def test_runs_that_failed_or_diverged_are_left_out(
    records: list[RunRecord], manifest: dict[str, Any]
) -> None:
    broken = replace(records[1].snapshots[-1], statistics=(math.nan,) * 10)
    diverged = replace(records[1], snapshots=[*records[1].snapshots[:-1], broken], diverged_epoch=3.0)
    study = Study.of([replace(records[0], failed=True), diverged, records[2]], manifest)
    assert len(study.records) == 2 and not study.trainable[0]
    assert study.at(2.0).tolist() == [0, 1] and study.at(3.0).tolist() == [1]
    with pytest.raises(PredictorError, match="'small' has no whole runs"):
        Study.of([replace(records[0], failed=True)], manifest)


def test_what_was_left_out_of_a_file_is_no_method_s_to_read(
    records: list[RunRecord], manifest: dict[str, Any]
) -> None:
    thin = Study.of([thinned(record, 1) for record in records], manifest)
    methods = ["graph-v1", "graph-v2", "fused", "curves"]
    rows = list(compare(thin, methods=methods, times=[1.0, 3.0], repeats=1))
    assert {row.method for row in rows if row.t == 1} == set(methods)
    assert {row.method for row in rows if row.t == 3} == {"graph-v1", "curves"}


def test_runs_of_one_configuration_share_a_group(records: list[RunRecord], manifest: dict[str, Any]) -> None:
    again = replace(records[0], config=records[0].config | {"seed": 5, "index": 99, "sampling": "band"})
    study = Study.of([*records[:3], again], manifest)
    assert study.groups.tolist() == [0, 1, 2, 0]


def test_no_group_is_on_both_sides_and_each_run_is_held_out_once() -> None:
    groups = np.repeat(np.arange(13), 3)
    for seed in (0, 1):
        dealt = folds(groups, seed)
        assert Counter(np.concatenate(dealt).tolist()) == Counter(range(39))
        assert all(len(fold) % 3 == 0 and 6 <= len(fold) <= 9 for fold in dealt)
        assert all(
            not set(groups[one]) & set(groups[other]) for one in dealt for other in dealt if one is not other
        )
    assert [fold.tolist() for fold in folds(groups, 0)] != [fold.tolist() for fold in folds(groups, 1)]


def test_scores_are_those_of_scipy_and_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth, predicted = random.random(50), random.random(50).round(1)
    runs = Outcome(truth, predicted, truth < 0.4, np.full(50, 0.4))
    assert mae(runs) == pytest.approx(mean_absolute_error(truth, predicted))
    assert r2(runs) == pytest.approx(r2_score(truth, predicted))
    assert spearman(runs) == pytest.approx(stats.spearmanr(truth, predicted).statistic)
    assert auc(runs) == pytest.approx(roc_auc_score(truth < 0.4, -predicted))
    assert accuracy(runs) == pytest.approx(((predicted < 0.4) == (truth < 0.4)).mean())


def test_scores_where_nothing_varies() -> None:
    same, two = np.full(4, 0.5), np.array([0.1, 0.2, 0.3, 0.4])
    assert spearman(Outcome(two, same, two < 0.25, same)) == 0
    assert math.isnan(spearman(Outcome(same, two, two < 0.25, same)))
    assert math.isnan(auc(Outcome(two, two, two < 0, same)))


def test_an_interval_holds_the_value_and_narrows_with_runs() -> None:
    random = np.random.default_rng(1)
    widths = []
    for count in (20, 320):
        truth = random.random(count)
        runs = Outcome(truth, truth + random.normal(0, 0.1, count), truth < 0.4, np.full(count, 0.4))
        score = scored(mae, runs, np.arange(count), 0)
        assert score.low < score.value < score.high
        widths.append(score.high - score.low)
    assert widths[1] < widths[0] / 2


def test_a_power_law_is_continued_exactly() -> None:
    curve = [0.8 - 0.6 * epoch**-1.0 for epoch in range(1, 8)]
    assert extrapolate(curve, 50) == pytest.approx(0.8 - 0.6 / 50, abs=1e-6)
    assert extrapolate([0.5, 0.4, 0.3], 50) == 0.3  # falls: nothing to continue
    assert extrapolate([0.1, 0.1, 0.1], 50) == pytest.approx(0.1)


def test_formulas_read_no_later_than_they_may(records: list[RunRecord]) -> None:
    record = records[-4]
    curve = record.curve["test_accuracy"]
    assert math.isnan(last_accuracy(record, 0.5)) and math.isnan(power_law(record, 0.25))
    assert last_accuracy(record, 2.0) == curve[1] and one_epoch(record, 3.0) == curve[0]
    assert loss_sum(record, 0.25) == -record.losses[3][0]
    assert loss_sum(record, 2.0) == pytest.approx(-sum(record.curve["train_loss"][:2]))
    assert power_law(record, 2.0) == max(curve[:2])


@pytest.mark.parametrize("method", INPUTS)
@pytest.mark.parametrize("time", [1 / 16, 1.0, 2.0])
def test_inputs_read_no_later_than_they_may(records: list[RunRecord], method: str, time: float) -> None:
    """A record cut off at the time, as a live run is, gives the same row."""
    record = records[-4]
    until = sum(snapshot.epoch <= time for snapshot in record.snapshots)
    cut = replace(
        record,
        snapshots=record.snapshots[:until],
        losses=record.losses[:until],
        weights=record.weights[:until],
        curve={name: values[: int(time)] for name, values in record.curve.items()},
    )
    row = list(INPUTS[method](record, time))
    assert row == list(INPUTS[method](cut, time))
    assert np.isfinite(row).all()


def test_rows_of_a_method_have_one_length(study: Study) -> None:
    for name, read in INPUTS.items():
        assert len({len(read(record, 1 / 4)) for record in study.records}) == 1, name
    assert len(losses(study.records[0], 1 / 16)) == len(losses(study.records[0], 3.0))
    assert len(curves(study.records[0], 1.0)) == len(curves(study.records[0], 3.0))


def test_distances_begin_at_nothing_and_grow_with_the_learning_rate(records: list[RunRecord]) -> None:
    slow, fast = distances(records[0]), distances(records[-6])
    assert slow[0] == fast[0] == [0.0] * 5
    assert all(far > near for near, far in zip(slow[-1], fast[-1], strict=True))


def test_shorter_rows_and_missing_numbers_are_filled_in() -> None:
    found = table([[1.0, math.nan], [2.0], [math.inf, -math.inf]])
    assert found.tolist() == [[1.0, -60.0], [2.0, -60.0], [60.0, -60.0]]


def test_a_learner_learns_and_repeats_itself(study: Study) -> None:
    x = table([graph_v2(record, 1.0) for record in study.records])
    first, again = (Learner(0).fit(x[::2], study.accuracies[::2]) for _ in range(2))
    assert first.choice == again.choice
    assert (first.predict(x[1::2]) == again.predict(x[1::2])).all()
    error = np.abs(first.predict(x[1::2]) - study.accuracies[1::2]).mean()
    assert error < 0.8 * np.abs(np.median(study.accuracies[::2]) - study.accuracies[1::2]).mean()


@pytest.fixture(scope="module")
def rows(study: Study) -> list[Row]:
    return list(compare(study, methods=["graph-v2", "losses", "last-accuracy", "loss-sum"], repeats=1))


def test_rows_say_what_was_compared(rows: list[Row]) -> None:
    assert {row.t for row in rows} == {1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 3.0}
    metrics = {
        method: {row.metric for row in rows if row.method == method} for method in ("losses", "loss-sum")
    }
    assert metrics == {
        "losses": {"mae", "r2", "spearman", "accuracy", "auc"},
        "loss-sum": {"spearman", "auc"},
    }
    assert {row.t for row in rows if row.method == "last-accuracy"} == {1.0, 2.0, 3.0}
    for row in rows:
        assert row.value is None or (row.low is not None and row.low <= row.value <= row.high + 1e-9), row
        assert row.runs == 24 or row.band == "trainable"


def test_weights_tell_more_than_losses_after_a_sixteenth_of_an_epoch(rows: list[Row]) -> None:
    found = {(row.method, row.metric): row.value for row in rows if (row.t, row.band) == (1 / 16, "all")}
    assert found["graph-v2", "mae"] < 0.75 * found["losses", "mae"]
    assert found["graph-v2", "spearman"] > 0.6


def test_the_same_seed_gives_the_same_rows(study: Study, rows: list[Row]) -> None:
    again = compare(study, methods=["losses"], times=[1.0], repeats=1)
    assert list(again) == [row for row in rows if (row.method, row.t) == ("losses", 1.0)]


def test_rows_survive_a_file(rows: list[Row], tmp_path: Path) -> None:
    write_rows(rows, tmp_path / "results.json")
    assert read_rows(tmp_path / "results.json") == rows


def test_a_table_marks_the_best_of_each_time() -> None:
    def row(method: str, t: float, value: float) -> Row:
        return Row("c", "all", method, t, "mae", value, value, value, 30)

    found = [row("a", 0.25, 0.1), row("b", 0.25, 0.2), row("a", 1.0, 0.3), row("b", 1.0, 0.05)]
    assert markdown_table(found, "c", "all", "mae").splitlines() == [
        "| after | 1/4 | 1 |",
        "| --- | --- | --- |",
        "| a | **10.0** | 30.0 |",
        "| b | 20.0 | **5.0** |",
    ]


def test_text_around_the_tables_stays() -> None:
    page = with_tables("# Results\n\n<!-- begin tables -->old<!-- end tables -->\n\nNotes.\n", "new")
    assert page == "# Results\n\n<!-- begin tables -->\n\nnew\n\n<!-- end tables -->\n\nNotes.\n"
    assert with_tables("", "new") == "<!-- begin tables -->\n\nnew\n\n<!-- end tables -->\n"


@pytest.mark.needs("pyarrow", "matplotlib")
def test_the_command_writes_rows_tables_and_figures(tmp_path: Path) -> None:
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
    found = json.loads((tmp_path / "results.json").read_text())
    assert {row["method"] for row in found} == {"loss-sum", "power-law"}
    assert "| power-law |" in (tmp_path / "results.md").read_text()
    drawn = {file.name for file in (tmp_path / "figures").iterdir()}
    assert drawn == {f"lenet5-digits-{b}-{m}.png" for b in ("all", "trainable") for m in ("mae", "spearman")}


def test_an_unknown_method_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="no method 'oracle': choose from graph-v1, graph-v2"):
        evaluate([], tmp_path, methods=["oracle"])
    assert "oracle" not in METHODS


# --- Runs unlike all others ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(records: list[RunRecord], manifest: dict[str, Any]) -> Study:
    """The runs twice over: as they are, and as though another optimizer had trained them on other data."""
    twins = [
        replace(record, config=record.config | {"dataset": "cifar10", "optimizer": "adam", "seed": 1})
        for record in records
    ]
    both = manifest["data"] | {"cifar10": manifest["data"]["digits"]}
    return Study.of([*records, *twins], manifest | {"data": both})


def test_one_value_of_a_trait_is_no_split(study: Study) -> None:
    assert list(transfer(study, methods=["losses"])) == []


def test_what_is_held_out_is_not_learned_from(
    mixed: Study, records: list[RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    fit = Learner.fit

    def counted(self: Learner, x: Any, y: Any) -> Learner:
        seen.append(len(x))
        return fit(self, x, y)

    monkeypatch.setattr(Learner, "fit", counted)
    rows = list(transfer(mixed, methods=["graph-v2"], times=[1.0]))
    bands = ["without cifar10", "without digits", "without adam", "without sgd"]
    assert [row.band for row in rows] == bands and seen == [24] * 4
    assert all(row.runs == 24 and row.metric == "spearman" for row in rows)
    assert all(row.value is not None and row.value > 0.9 for row in rows)  # its twin taught each run


def test_ranks_are_within_a_data_set(mixed: Study) -> None:
    """An accuracy that is low on one data set may be high on another."""
    rows = list(transfer(mixed, methods=["last-accuracy"], times=[3.0]))
    halved = replace(mixed, accuracies=np.where(np.arange(48) < 24, mixed.accuracies / 2, mixed.accuracies))
    assert [row.value for row in transfer(halved, methods=["last-accuracy"], times=[3.0])] == [
        row.value for row in rows
    ]


def test_relative_accuracy_is_zero_for_guessing_and_one_for_the_best(mixed: Study) -> None:
    found = relative_accuracies(mixed)
    assert found.max() == 1 and found[np.argmax(mixed.accuracies)] == 1
    assert (found[mixed.accuracies <= 0.1] == 0).all() and (found[:24] == found[24:]).all()
