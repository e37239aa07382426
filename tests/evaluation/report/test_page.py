"""`nndyn report`: one page about recorded runs, whose numbers are those of the records."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
from callback_runs import BATCHES
from report_page import Page
from report_runs import EPOCHS, NASTY, accuracy, low_below, records, run
from scipy.stats import spearmanr
from typer.testing import CliRunner

from lightning_nndyn.callback.audit import estimate_false_stop_rate, read_audited_runs
from lightning_nndyn.callback.record_file import read_record
from lightning_nndyn.cli import app
from lightning_nndyn.errors import ReportError
from lightning_nndyn.evaluation.report import write_report
from lightning_nndyn.evaluation.report.records import load

# -- what it says --------------------------------------------------------------------------------------------


def test_a_record_tells_what_decisions_rested_on_and_how_many_nodes_layers_have(sweep: Path) -> None:
    for record in records(sweep):
        assert record["policy"]["low_threshold"] == low_below() and record["policy"]["threshold"] == 0.5
        assert record["policy"]["limits"].keys() == {"weights", "fused"}
        assert record["layer_sizes"] == [1, 6, 16, 120, 84, 10]
        assert sum(record["layer_sizes"]) == record["history"][0]["num_nodes"]


def test_the_summary_is_that_of_the_records(sweep: Path, page: Page) -> None:
    found = records(sweep)
    stopped = [one for one in found if one["status"] == "stopped"]
    finished = [one for one in found if one["status"] == "finished"]
    assert (len(stopped), len(finished)) == (1, 8)
    trained = EPOCHS * len(finished) + sum(one["decision"]["epoch"] for one in stopped)
    would = [EPOCHS - one["decision"]["epoch"] for one in finished if one["decision"]["stop"]]
    good = [one for one in finished if accuracy(one) >= low_below()]
    assert len(would) >= 3 and len(good) >= 3
    shown = {
        key: page.text(data_number=key) for key in ("runs", "epochs", "saved", "would-save", "good-condemned")
    }
    assert shown["runs"] == "9"
    assert float(shown["epochs"]) == pytest.approx(trained, abs=0.01)
    assert float(shown["saved"]) == pytest.approx(EPOCHS - stopped[0]["decision"]["epoch"], abs=0.01)
    assert float(shown["would-save"]) == pytest.approx(sum(would), abs=0.01)
    assert shown["good-condemned"] == f"{sum(one['decision']['stop'] for one in good)} of {len(good)}"
    assert "How 1 stopped run would have ended is not known" in page.text(id="summary")


def test_the_audit_s_estimate_is_that_of_the_ledger(sweep: Path, page: Page) -> None:
    rate = estimate_false_stop_rate(read_audited_runs(sweep), low_below(), None)
    assert rate.rate is not None
    assert page.text(data_number="audit") == f"{100 * rate.rate:.1f} %"


def test_the_ledger_has_a_line_for_each_run(sweep: Path, page: Page) -> None:
    rows = {row[0]: row for row in page.rows("ledger-table")}
    files = sorted((sweep / "lightning_logs").rglob("nndyn-*.json"))
    assert len(rows) == len(files) == 9
    for one in files:
        record, row = read_record(one), rows[str(one.parent.relative_to(sweep / "lightning_logs"))]
        decision, verdicts = record["decision"], {v["epoch"]: v for v in record["verdicts"]}
        said = verdicts[decision["epoch"]] if decision["stop"] else record["verdicts"][-1]
        fate = "stopped" if record["status"] == "stopped" else "would stop" if decision["stop"] else "goes on"
        fate += ", but exempt" if decision["stop"] and record["spared"] else ""
        assert row[1:3] == [record["status"], fate]
        assert row[3] == (f"{decision['epoch']:g}" if decision["stop"] else "–")
        assert row[4] == f"{100 * said['predicted_accuracy']:.1f} %"
        assert row[5] == f"{100 * accuracy(record):.1f} %"
        low = (
            "not known"
            if record["status"] == "stopped"
            else "low"
            if accuracy(record) < low_below()
            else "good"
        )
        assert row[6] == low and row[8].startswith(decision["reason"])
    assert sum(row[2] == "would stop, but exempt" for row in rows.values()) == 1


def test_a_run_stopped_in_its_first_epoch_has_not_trained_a_whole_one(sweep: Path) -> None:
    (stopped,) = (one for one in load([sweep]).runs if one.stopped)
    assert stopped.epochs == stopped.decision.epoch < 1
    assert stopped.saved == EPOCHS - stopped.epochs


def test_predictions_are_held_against_the_truth_at_each_time(sweep: Path, page: Page) -> None:
    finished = [one for one in records(sweep) if one["status"] == "finished"]
    for shown in page.data["forecasts"]:
        said = [
            (v["predicted_accuracy"], accuracy(one))
            for one in finished
            for v in one["verdicts"]
            if v["epoch"] == shown["time"]
        ]
        predicted, true = zip(*said, strict=True)
        assert shown["runs"] == len(said) == 8
        error = statistics.fmean(abs(p - t) for p, t in said)
        assert shown["error"] == pytest.approx(error, rel=1e-4)
        assert shown["rank"] == pytest.approx(spearmanr(predicted, true).statistic, abs=1e-4)
    assert [one["time"] for one in page.data["forecasts"]] == [0.0625, 0.125, 0.25, 0.5, 1, 2, 3]


def test_charts_are_drawn_from_the_records(sweep: Path, page: Page) -> None:
    by_curve = {tuple(round(v, 4) for v in one["metrics"]["val_accuracy"]): one for one in records(sweep)}
    for shown in page.data["runs"]:
        record = by_curve[tuple(round(v, 4) for v in shown["curve"])]
        assert shown["times"] == [snapshot["epoch"] for snapshot in record["history"]]
        for row, snapshot in zip(shown["signature"], record["history"], strict=True):
            assert row == pytest.approx(snapshot["statistics"], rel=1e-4)
        last, layers = shown["layers"][-1], record["history"][-1]["layers"]
        assert [one["name"] for one in last["rows"]] == list(layers)
        for one, row in zip(last["rows"], layers.values(), strict=True):
            assert one["degree"] == pytest.approx(row[4:11], rel=1e-4)
            assert one["eigenvector"] == pytest.approx(row[15:22], rel=1e-4)
            assert one["norm"] == pytest.approx(row[22], rel=1e-4)
    assert page.data["bars"] == [low_below()]


# -- the file ------------------------------------------------------------------------------------------------


def test_the_page_loads_nothing_and_runs_only_its_own_script(file: Path, page: Page) -> None:
    for name, attributes in page.elements:
        for key in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(key) or "#").startswith(("#", "data:,")), (name, attributes)
        assert not any(key.startswith("on") or key == "style" for key in attributes), (name, attributes)
    assert set(re.findall(r"https?://[^\s\"'<]*", file.read_text())) == {"http://www.w3.org/2000/svg"}
    policy = next(
        a["content"] or "" for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none';")
    run_, styled = [text for name, text in page.scripts if name == "script"][-1], page.scripts[0][1]
    for text in (run_, styled):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


def test_the_page_has_a_name_for_everything_that_is_operated_or_seen(page: Page) -> None:
    names = [name for name, _ in page.elements]
    assert (
        names.count("main") == names.count("h1") == names.count("nav") == 1
        and ("html", {"lang": "en"}) in page.elements
    )
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for name, attributes in page.elements:
        if name == "section":
            assert attributes["aria-labelledby"] in ids
        if attributes.get("role") == "region":
            assert attributes["aria-label"] and attributes["tabindex"] == "0"
        if (attributes.get("href") or "").startswith("#") and not (attributes["href"] or "").startswith(
            "#run-"
        ):
            assert (attributes["href"] or "")[1:] in ids
    regions = [a["aria-label"] for _, a in page.elements if a.get("role") == "region"]
    assert len(regions) == len(set(regions))


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [0, 1, 2])
def test_contrast_is_that_of_wcag_aa(page: Page, theme: int) -> None:
    block = re.findall(r"\{[^{}]*--page:[^{}]*\}", page.scripts[0][1])[theme]
    colours = dict(re.findall(r"--(\w+): (#\w{6})", block))
    for front, least in (
        ("ink", 4.5),
        ("soft", 4.5),
        ("accent", 4.5),
        ("good", 3),
        ("low", 3),
        ("unknown", 3),
    ):
        for back in ("page", "card", "tint"):
            one, other = sorted((luminance(colours[front]), luminance(colours[back])))
            assert (other + 0.05) / (one + 0.05) >= least, (front, back)


def test_names_from_records_are_text_and_nothing_else(sweep: Path, tmp_path: Path) -> None:
    for i, one in enumerate(sorted(sweep.rglob("nndyn-*.json"))[:2]):
        record = read_record(one)
        record["metrics"] = {NASTY: record["metrics"]["val_accuracy"]}
        record |= {"monitor": NASTY, "predictor": NASTY, "run": str(i) * 12}
        record["decision"]["reason"] = NASTY
        (tmp_path / f"nndyn-{i}.json").write_text(json.dumps(record))
    text = write_report([tmp_path], tmp_path / "report.html", title=NASTY).file.read_text()
    page = Page(text)
    assert not any(name == "img" for name, _ in page.elements)
    assert page.data["metric"] == NASTY and page.data["runs"][0]["label"] == "0" * 12
    assert [name for name, _ in page.scripts].count("script") == 2
    assert page.rows("ledger-table")[0][8] == NASTY


def test_a_folder_whose_name_is_no_unicode_costs_no_page(sweep: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    shutil.copy(next(sweep.rglob("nndyn-*.json")), folder)
    done = write_report([tmp_path], tmp_path / "report.html")
    assert "caf" in done.file.read_text()


def test_a_page_that_cannot_be_written_leaves_the_older_one(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("older")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ReportError, match=r"cannot write the page to .*No space left"):
        write_report([sweep], tmp_path / "report.html")
    assert os.listdir(tmp_path) == ["report.html"] and (tmp_path / "report.html").read_text() == "older"
    with pytest.raises(ReportError, match="cannot write the page"):
        write_report([sweep], tmp_path / "report.html" / "page.html")


# -- records that are not as they should be ------------------------------------------------------------------


def test_where_there_is_no_record_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="does not exist"):
        write_report([tmp_path / "nowhere"], tmp_path / "report.html")
    with pytest.raises(ReportError, match=r"no records of runs.*train with GraphDynamicsCallback"):
        write_report([tmp_path], tmp_path / "report.html")
    (tmp_path / "nndyn-x.json").write_text("{")
    with pytest.raises(ReportError, match=r"none of the 1 records.*nndyn-x.json is not a readable"):
        write_report([tmp_path], tmp_path / "report.html")


@pytest.mark.parametrize("broken", ["{", "[]", "null", '{"format": 99}', '{"format": 1, "history": []}'])
def test_a_record_that_cannot_be_read_is_listed_and_the_others_count(
    sweep: Path, tmp_path: Path, broken: str
) -> None:
    shutil.copytree(sweep, tmp_path / "runs")
    (tmp_path / "runs" / "nndyn-broken.json").write_text(broken)
    report = write_report([tmp_path / "runs"], tmp_path / "report.html")
    assert report.summary.runs == 9 and len(report.unreadable) == 1
    page = Page(report.file.read_text())
    assert "nndyn-broken.json" in page.text(id="unreadable")
    assert "1 record cannot be read, as listed" in page.text(id="summary")


def changed(sweep: Path, folder: Path, changes: dict[int, dict[str, Any]]) -> Path:
    """The sweep's records, some of them with other contents."""
    folder.mkdir()
    for i, one in enumerate(sorted(sweep.rglob("nndyn-*.json"))):
        (folder / one.name).write_text(json.dumps({**read_record(one), **changes.get(i, {})}))
    return folder


def test_mixed_monitors_and_missing_accuracies_are_told_apart(sweep: Path, tmp_path: Path) -> None:
    changes = {
        0: {"monitor": "f1", "metrics": {"f1": [0.5, 0.6, 0.7]}},
        1: {"monitor": None, "predictor": None, "verdicts": [], "metrics": {}},
        2: {"metrics": {"val_accuracy": [50.0, 60.0, 70.0]}, "accuracies": []},
        3: {"status": "running"},
    }
    folder = changed(sweep, tmp_path / "runs", changes)
    page = Page(write_report([folder], tmp_path / "report.html").file.read_text())
    told = page.text(id="summary")
    assert "different monitors: val_accuracy (7), f1 (1). This page reads val_accuracy of all of them" in told
    assert (
        "val_accuracy was not logged" in told
        and "--metric names another of those that were logged: f1" in told
    )
    assert "val_accuracy is 50, which is no accuracy between 0 and 1" in told
    assert (
        "1 run had no verdict" in told
        and "1 run of which the end is not known: still training, or killed" in told
    )
    other = Page(write_report([folder], tmp_path / "report.html", metric="f1").file.read_text())
    assert sum(run["best"] is not None for run in other.data["runs"]) == 1


def test_runs_without_any_accuracy_make_a_page_too(sweep: Path, tmp_path: Path) -> None:
    nothing = {"monitor": None, "metrics": {}, "accuracies": []}
    folder = changed(sweep, tmp_path / "runs", dict.fromkeys(range(9), nothing))
    page = Page(write_report([folder], tmp_path / "report.html").file.read_text())
    assert page.text(data_number="good-condemned") == "not known"
    assert "No run has a validation accuracy" in page.text(id="curves")
    assert "No run with a known end has a prediction" in page.text(id="forecast")
    assert "nothing to replay" in page.text(id="comparison")


def test_a_diverged_run_is_drawn_as_far_as_its_weights_were_finite(tmp_path: Path) -> None:
    run(tmp_path, 1e20, seed=3, action="observe")
    page = Page(write_report([tmp_path], tmp_path / "report.html").file.read_text())
    (shown,) = page.data["runs"]
    assert shown["signature"][0][0] is not None and shown["signature"][-1][0] is None
    assert [one["time"] for one in shown["layers"]] == [0.0]
    assert "training has diverged" in page.rows("ledger-table")[0][8]


def test_old_records_tell_nothing_of_policy_and_sizes(sweep: Path, tmp_path: Path) -> None:
    old = {"policy": {}, "layer_sizes": []}
    folder = changed(sweep, tmp_path / "runs", dict.fromkeys(range(9), old))
    page = Page(write_report([folder], tmp_path / "report.html").file.read_text())
    assert "No record tells what is low" in page.text(id="summary")
    best = max(accuracy(one) for one in records(sweep))
    assert page.data["bars"] == [pytest.approx(0.1 + 0.5 * (best - 0.1), rel=1e-4)]
    assert page.data["runs"][0]["layers"][0]["rows"][0]["size"] is None


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"low_threshold": 1.5}, "low_threshold=1.5"),
        ({"low_share": 0.0}, "low_share=0.0"),
        ({"low_threshold": 0.5, "low_share": 0.5}, "give one of them"),
    ],
)
def test_a_bar_that_is_none_is_refused(
    sweep: Path, tmp_path: Path, settings: dict[str, float], complaint: str
) -> None:
    with pytest.raises(ReportError, match=complaint):
        write_report([sweep], tmp_path / "report.html", **settings)  # type: ignore[arg-type]


# -- the command ---------------------------------------------------------------------------------------------


def test_the_command_writes_the_page_and_names_what_is_left_out(sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep, tmp_path / "runs")
    (tmp_path / "runs" / "nndyn-broken.json").write_text("{")
    output = tmp_path / "page.html"
    arguments = ["report", str(tmp_path / "runs"), "--output", str(output), "--low-threshold", "0.99"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "9 runs" in done.output and "left out:" in done.output and "nndyn-broken.json" in done.output
    assert "below 99 % accuracy (as was asked for)" in Page(output.read_text()).text(id="summary")


def test_a_record_may_be_named_by_itself(sweep: Path, tmp_path: Path) -> None:
    one = sorted(sweep.rglob("nndyn-*.json"))[0]
    assert write_report([one], tmp_path / "report.html").summary.runs == 1


def test_batches_are_those_of_the_record(sweep: Path, page: Page) -> None:
    assert f"sgd, {BATCHES} steps an epoch" in dict(page.data["runs"][0]["facts"])["Trained by"]


def test_the_rule_says_what_each_limit_is_of(sweep: Path, tmp_path: Path) -> None:
    file = next(sweep.rglob("nndyn-*.json"))
    record = read_record(file)
    record["policy"] |= {"threshold": None, "limits": {"weights": 2.5, "fused": 2.25, "curve": 3.75}}
    (tmp_path / file.name).write_text(json.dumps(record))
    text = write_report([tmp_path], tmp_path / "report.html").file.read_text()
    assert "2.50 with weights alone, 2.25 with the curve, 3.75 with the curve alone" in text
