"""`nndyn evaluate cohort`: rows of means over sweeps, which an interrupted command goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cohorts import made_up_sweep

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation import compare_ways
from lightning_nndyn.evaluation.cohort import compare, fit
from lightning_nndyn.evaluation.result_file import read_rows

pytestmark = pytest.mark.needs("pyarrow", "optuna")


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for four sweeps of two families on two data sets."""
    sweeps = [
        made_up_sweep(seed, family, dataset)
        for seed, (family, dataset) in enumerate(
            [("mlp", "digits"), ("vit", "cifar10"), ("mlp", "cifar10"), ("vit", "digits")], start=58
        )
    ]
    monkeypatch.setattr(compare, "load_recorded_sweeps", lambda paths: sweeps)
    monkeypatch.setattr(fit, "_STEPS", 20)
    compare._sweeps.cache_clear()
    file = tmp_path / "made-up.parquet"
    file.write_bytes(b"four sweeps")
    return file


def values(rows: list[dict[str, Any]], **fields: Any) -> dict[str, float]:
    return {
        row["unit"]: row["value"] for row in rows if all(row[name] == one for name, one in fields.items())
    }


def test_rows_are_means_over_sweeps(corpus: Path, tmp_path: Path) -> None:
    said: list[str] = []
    rows = compare_ways([corpus], tmp_path / "results", cache=tmp_path / "cache", on_progress=said.append)
    assert rows is not None and len(said) == 4 and "mlp, mixer on digits" in said[0]
    assert read_rows(tmp_path / "results" / "cohort.parquet")[0] == rows
    spent = values(rows, method="keep=0.08", metric="epochs")
    assert set(spent) == {"mlp, mixer", "transformer, vit", "all sweeps", "sweeps recorded later"}
    assert spent["all sweeps"] == pytest.approx((spent["mlp, mixer"] + spent["transformer, vit"]) / 2)
    counts = {row["unit"]: row["count"] for row in rows if row["metric"] == "epochs"}
    assert (counts["all sweeps"], counts["sweeps recorded later"]) == (4, 2)  # those from number 60 on
    assert values(rows, method="no stopping", metric="regret")["all sweeps"] == 0
    with_weights = values(rows, method="cohort", metric="spearman", t=1.0)["all sweeps"]
    without = values(rows, method="cohort without weights", metric="spearman", t=1.0)["all sweeps"]
    gain = values(rows, method="weights add", metric="spearman", t=1.0)["all sweeps"]
    assert gain == pytest.approx(with_weights - without)
    assert all(row["knows"] == "nothing" for row in rows)


def test_ratios_of_units_and_their_geometric_mean(corpus: Path, tmp_path: Path) -> None:
    rows = compare_ways([corpus], tmp_path / "results", cache=None)
    assert rows is not None
    for metric in ("default ratio", "frontier ratio"):
        found = values(rows, metric=metric)
        single = [found["mlp, mixer"], found["transformer, vit"]]
        assert found["geometric mean, sweeps"] == pytest.approx((single[0] * single[1]) ** 0.5)
        assert found["all sweeps"] > 0


def test_what_is_finished_is_not_computed_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    arguments: dict[str, Any] = {"cache": tmp_path / "cache", "on_progress": said.append}
    assert compare_ways([corpus], tmp_path / "results", minutes=0, **arguments) is None
    assert "0 parts are finished" in said[-1] and not (tmp_path / "results").exists()
    whole = compare_ways([corpus], tmp_path / "results", **arguments)
    monkeypatch.setattr(compare, "fit_standing_model", lambda *_, **__: pytest.fail("fitted again"))
    assert compare_ways([corpus], tmp_path / "results", **arguments) == whole
    corpus.write_bytes(b"other sweeps")
    compare._sweeps.cache_clear()
    with pytest.raises(BaseException, match="fitted again"):
        compare_ways([corpus], tmp_path / "results", **arguments)


def test_corpora_of_one_family_alone_are_refused(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "load_recorded_sweeps", lambda paths: [made_up_sweep(0), made_up_sweep(1)])
    with pytest.raises(PredictorError, match="ranks mlp, mixer on digits: give corpora of other families"):
        compare_ways([corpus], tmp_path / "results", cache=None)
    assert not (tmp_path / "results").exists()
