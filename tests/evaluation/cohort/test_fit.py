"""What ranks the runs of a sweep is fitted to other sweeps, and learns what their ranks tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cohorts import made_up_sweep

from lightning_nndyn.evaluation.cohort import fit
from lightning_nndyn.evaluation.cohort.held_out import rank_correlations
from lightning_nndyn.evaluation.cohort.recorded_sweeps import sweeps_of
from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.sweep import rank
from lightning_nndyn.sweep.cohort import CURVE_INPUTS, INPUTS
from lightning_nndyn.sweep.standing import StandingModel


@pytest.fixture(scope="module")
def model() -> StandingModel:
    return fit.fit_standing_model([made_up_sweep(seed) for seed in range(4)])


def test_it_learns_what_other_sweeps_teach(model: StandingModel) -> None:
    unseen = made_up_sweep(9).runs
    scores = rank([replace(run, value=None) for run in unseen], model=model)
    assert np.corrcoef(scores, [run.value or 0 for run in unseen])[0, 1] > 0.8


def test_rankings_are_compared_where_there_is_something_to_rank(model: StandingModel) -> None:
    found = rank_correlations(made_up_sweep(9), {"standing": model}, 1.0)
    assert found is not None and found["standing"] > 0.9 and found["accuracy so far"] > 0.9
    early = rank_correlations(made_up_sweep(9), {"standing": model}, 0.25)
    assert early is not None and abs(early["standing"]) < 0.6  # there was nothing to learn
    assert np.isnan(early["accuracy so far"])
    assert rank_correlations(made_up_sweep(9), {"standing": model}, 8.0) is None


def test_the_same_sweeps_give_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_STEPS", 30)
    first, again = (fit.fit_standing_model([made_up_sweep(seed) for seed in range(4)]) for _ in range(2))
    for name, array in vars(first).items():
        np.testing.assert_array_equal(array, getattr(again, name))


def test_inputs_that_are_left_out_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_STEPS", 10)
    model = fit.fit_standing_model([made_up_sweep(0)], leave_out=CURVE_INPUTS)
    table = np.random.default_rng(0).normal(size=(8, len(INPUTS)))
    other = table.copy()
    other[:, [INPUTS.index(name) for name in CURVE_INPUTS]] += 1
    np.testing.assert_array_equal(model(table), model(other))
    other[:, 0] += 1
    assert not np.array_equal(model(table), model(other))


def test_a_card_says_what_was_fitted(model: StandingModel, tmp_path: Path) -> None:
    sweeps = [made_up_sweep(0), made_up_sweep(1, "vit", "languages")]
    fit.save_with_card(model, sweeps, tmp_path / "new" / "mine")
    card = json.loads((tmp_path / "new" / "mine.json").read_text())
    assert (card["runs"], card["families"], card["datasets"]) == (48, ["mlp", "vit"], ["digits", "languages"])
    StandingModel.load(tmp_path / "new" / "mine.npz")


def test_a_corpus_is_read_as_sweeps(study: RunDataset, mixed: RunDataset) -> None:
    (grid,) = sweeps_of([study])
    assert (grid.family, grid.dataset, grid.is_grid) == ("lenet", "digits", True)
    assert len(grid.runs) == len(study.records) == len(grid.epochs)
    assert [run.value for run in grid.runs] == study.accuracies.tolist()
    assert all(reading.time in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8) for reading in grid.runs[0].readings)
    assert set(grid.runs[0].params) >= {"learning_rate", "optimizer"}
    # The parts of a corpus may lie in several files.
    parts = sweeps_of([mixed.take(np.arange(len(mixed.records)) % 2 == part) for part in (0, 1)])
    assert sorted(len(part.runs) for part in parts) == [len(study.records)] * 2


def test_a_grid_gives_random_sweeps_which_are_always_the_same(study: RunDataset) -> None:
    (grid,) = sweeps_of([study])
    first, second = grid.drawn(2, 10)
    again, _ = grid.drawn(2, 10)
    assert len(first.runs) == 10 and first.runs == again.runs != second.runs
    for run, record, epochs, curve in zip(first.runs, first.records, first.epochs, first.curves, strict=True):
        place = grid.runs.index(run)
        assert (record, epochs) == (grid.records[place], grid.epochs[place]) and curve == grid.curves[place]
    assert len(grid.drawn(1, 10_000)[0].runs) == len(grid.runs)
