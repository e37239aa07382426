"""The tasks of an evaluation: what is kept, what is computed again, and what an interruption leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_corpora import three
from perceptron_corpus import write_corpus

from lightning_nndyn.evaluation import Row, evaluate
from lightning_nndyn.evaluation.benchmark import tasks
from lightning_nndyn.evaluation.benchmark.evaluate import _rows
from lightning_nndyn.evaluation.benchmark.tasks import comparison_tasks, false_stop_tasks
from lightning_nndyn.evaluation.cache import PartCache, Source, Task, run_tasks

pytestmark = pytest.mark.needs("matplotlib", "pyarrow")


METHODS = ["last-accuracy", "graph-paper-svm"]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [write_corpus(tmp_path_factory.mktemp("corpora") / name) for name in ("one", "two")]


def row(band: str, value: float = 0.5) -> Row:
    return Row("c", band, "m", 1.0, "mae", value, None, None, 3)


def test_an_evaluation_that_was_cut_goes_on(
    corpora: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(output: str, **settings: Any) -> list[Row] | None:
        return evaluate(corpora, tmp_path / output, methods=METHODS, times=[0.25, 1.0], **settings)

    lines: list[str] = []
    cache = tmp_path / "cache"
    whole = run("whole")
    assert run("cut", cache=cache, minutes=0, on_progress=lines.append) is None
    assert not (tmp_path / "cut").exists() and not cache.exists()
    assert (
        "time is up, 9 parts are left" in lines[-1]
    )  # each corpus 2 times, kinds and paper; unseen networks
    assert run("first", cache=cache) == whole
    monkeypatch.setattr(tasks, "compare", None)
    monkeypatch.setattr(tasks, "paper_rows", None)
    assert run("again", cache=cache, minutes=0) == whole
    first, again = (tmp_path / name / "predictions.parquet" for name in ("first", "again"))
    assert first.read_bytes() == again.read_bytes()


def test_with_a_corpus_more_only_what_is_new_is_computed(
    corpora: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(corpora[:1], tmp_path, methods=METHODS, times=[1.0], cache=tmp_path / "cache")
    compared: list[str] = []
    compare = tasks.compare
    monkeypatch.setattr(
        tasks, "compare", lambda study, **settings: compared.append(study.name) or compare(study, **settings)
    )
    evaluate(corpora, tmp_path, methods=METHODS, times=[1.0], cache=tmp_path / "cache")
    assert compared == ["two"]


def test_results_in_a_repository_are_not_computed_again(
    corpora: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the cache, from the results alone."""
    output, settings = tmp_path / "results", {"methods": METHODS, "times": [0.25, 1.0]}
    first = evaluate(corpora[:1], output, cache=tmp_path / "cache", **settings)
    written = {file.name: file.read_bytes() for file in output.iterdir()}
    compared: list[str] = []
    compare = tasks.compare
    monkeypatch.setattr(
        tasks, "compare", lambda study, **others: compared.append(study.name) or compare(study, **others)
    )
    assert evaluate(corpora[:1], output, cache=tmp_path / "another", **settings) == first
    assert not compared and {file.name: file.read_bytes() for file in output.iterdir()} == written
    both = evaluate(corpora, output, cache=tmp_path / "a third", **settings)
    assert compared == ["two", "two"] and both is not None and set(first or []) < set(both)
    (output / "predictions.parquet").unlink()
    evaluate(corpora, output, cache=tmp_path / "a fourth", **settings)
    assert compared[2:] == ["one", "one", "two", "two"]


def test_a_changed_corpus_or_setting_is_computed_anew(tmp_path: Path) -> None:
    (tmp_path / "corpus").write_text("runs")
    kept = PartCache(tmp_path / "cache")

    def names(**settings: Any) -> set[str]:
        wanted = {"methods": None, "times": [1.0], "repeats": 1, "seed": 0} | settings
        task, *_ = comparison_tasks(Source.at(tmp_path / "corpus"), "c", **wanted)
        assert Task(task.name, task.settings, lambda: {"rows": []}).run(kept) is not None
        return {file.name for file in (tmp_path / "cache").iterdir()}

    assert len(names()) == len(names()) == 1
    for changed in ({"repeats": 2}, {"seed": 1}, {"methods": ("losses",)}, {"times": [2.0]}):
        assert len(names()) + 1 == len(names(**changed))
    before = len(names())
    (tmp_path / "corpus").write_text("more runs")
    assert len(names()) == before + 1


def test_rows_come_in_the_order_of_the_tasks_and_what_is_late_is_told() -> None:
    made = [made_task(band) for band in "abc"]
    lines: list[str] = []
    rows, late = _rows(made, PartCache(None), 1, lines.append)
    assert [one.band for part in rows.values() for one in part] == ["a", "b", "c"] and not late
    assert lines[0].startswith("a: 1 numbers (")
    rows, late = _rows(made, PartCache(None, deadline=0.0), 1, lines.append)
    assert not rows and late == 3


def made_task(band: str) -> Task:
    return Task(band, "", lambda: {"rows": [asdict(row(band))]})


def test_parts_of_published_results_are_taken_into_the_cache_and_replace_none(tmp_path: Path) -> None:
    made = [made_task(band) for band in "abc"]
    cache = PartCache(tmp_path / "cache")
    cache.add({})
    assert not (tmp_path / "cache").exists()
    list(run_tasks(made[:1], cache, 1))
    published = {task.key: {"rows": [asdict(row(task.name, 0.9))], "seconds": 0.0} for task in made[:2]}
    cache.add(published)
    parts = run_tasks(made, cache, 1)
    assert [part["rows"][0]["value"] for part in parts if part] == [0.5, 0.9, 0.5]
    PartCache(None).add(published)  # nothing is kept


def test_promises_are_measured_on_all_corpora_and_by_leaving_out_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Any, ...]] = []

    def noted(name: str) -> Any:
        def rows(*arguments: Any) -> Iterator[Row]:
            asked.append((name, *arguments))
            yield row(name)

        return rows

    monkeypatch.setattr(tasks, "_dataset", lambda source: three()[int(source.path)])
    monkeypatch.setattr(tasks, "_datasets", lambda sources: [three()[int(one.path)] for one in sources])
    for name in ("split_rows", "unknown_rows", "own_rows"):
        monkeypatch.setattr(tasks, name, noted(name))
    tasks._union.cache_clear()
    wanted = list(
        false_stop_tasks([Source(str(place), str(place)) for place in range(3)], ["a", "b", "c"], 7)
    )
    parts = [*run_tasks(wanted, PartCache(None), 1)]
    tasks._union.cache_clear()
    bands = [one["band"] for part in parts if part for one in part["rows"]]
    assert bands == ["split_rows"] * 3 + ["unknown_rows"] * 6
    assert [one[1] for one in asked[:3]] == list(three()) and all(one[-1] == 7 for one in asked)
    left_out = {one[3]: one[2] for one in asked[3:9]}
    assert set(left_out) == {
        "without one on one", "without two on two", "without three on three",
        "without data set one", "without data set two", "without data set three",
    }  # fmt: skip
    assert np.flatnonzero(left_out["without two on two"]).tolist() == list(range(100, 200))
    assert len({id(one[1]) for one in asked[3:]}) == 1
    own = {one[3]: one[4] for one in asked[3:9]}  # one predictor does for both, where a corpus is left out
    assert [own[f"without {name} on {name}"] for name in ("one", "two", "three")] == list(three())
    assert [own[f"without data set {name}"] for name in ("one", "two", "three")] == [None] * 3


def test_a_corpus_that_is_never_left_out_alone_has_its_own_runs_measured_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, *others = three()
    corpora = [one, tasks.concatenate(others, "both")]
    monkeypatch.setattr(tasks, "_datasets", lambda sources: [corpora[int(s.path)] for s in sources])
    tasks._union.cache_clear()
    wanted = list(false_stop_tasks([Source(str(place), str(place)) for place in range(2)], ["a", "b"], 7))
    tasks._union.cache_clear()
    assert [task.name for task in wanted if "own" in task.name] == ["b, runs of one's own"]
    shared = [task.name for task in wanted if task.settings.endswith(", 0, 7)]")]
    assert shared == ["universal without one on one"]


def test_numbers_that_are_not_defined_survive_the_cache(tmp_path: Path) -> None:
    kept = PartCache(tmp_path)
    rows = [row("all", 1 / 3), Row("c", "b", "m", 1.0, "r2", None, None, None, 2)]
    task = Task("a", "", lambda: {"rows": [asdict(one) for one in rows]})
    first, again = (_rows([task], kept, 1, lambda line: None)[0] for _ in range(2))
    assert first == again and len(list(tmp_path.iterdir())) == 1
