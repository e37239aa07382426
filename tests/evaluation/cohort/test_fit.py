"""What ranks the runs of a sweep is fitted to other sweeps, and learns what their ranks tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cohorts import random_runs

from lightning_nndyn.evaluation.cohort import fit
from lightning_nndyn.evaluation.cohort.held_out import (
    FAMILY_GROUPS,
    held_out_models,
    pruned,
    rank_correlations,
    replayed,
)
from lightning_nndyn.evaluation.cohort.recorded_sweeps import RecordedSweep, sweeps_of
from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.predictor.policy import Decision
from lightning_nndyn.sweep import Reading, SweepRun, rank
from lightning_nndyn.sweep.cohort import CURVE_INPUTS, INPUTS
from lightning_nndyn.sweep.standing import StandingModel

TIMES = (0.25, 1.0, 2.0)


def made_up_sweep(seed: int, family: str = "mlp", dataset: str = "digits") -> RecordedSweep:
    """The final value is what the metric shows from the first epoch on, but for some noise."""
    rng = np.random.default_rng(seed)
    runs = []
    for early in random_runs(24, 0.25, seed):
        value = float(rng.uniform(0.1, 0.9))
        seen = value + 0.05 * rng.normal()
        late = [Reading(time, (), (-value, -value, seen, seen, 0.0)) for time in TIMES[1:]]
        params = {"learning_rate": early.params["lr"], "optimizer": "sgd"}
        runs.append(SweepRun(params, [*early.readings, *late], value))
    found = RecordedSweep("made-up", family, dataset, (), runs, is_grid=False)
    curves = [[run.readings[1].curve[2]] * 7 + [run.value] for run in runs]
    found.__dict__.update(epochs=[8.0] * 24, curves=curves)
    return found


@pytest.fixture(scope="module")
def model() -> StandingModel:
    return fit.fit_standing_model([made_up_sweep(seed) for seed in range(4)])


def test_it_learns_what_other_sweeps_teach(model: StandingModel) -> None:
    found = rank_correlations(made_up_sweep(9), model, 1.0)
    assert found is not None and found["standing"] > 0.9 and found["accuracy so far"] > 0.9
    early = rank_correlations(made_up_sweep(9), model, 0.25)
    assert early is not None and abs(early["standing"]) < 0.6  # there was nothing to learn
    assert rank_correlations(made_up_sweep(9), model, 8.0) is None
    unseen = made_up_sweep(9).runs
    scores = rank([replace(run, value=None) for run in unseen], model=model)
    assert np.corrcoef(scores, [run.value or 0 for run in unseen])[0, 1] > 0.8


def test_the_same_sweeps_give_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_STEPS", 30)
    first, again = (fit.fit_standing_model([made_up_sweep(seed) for seed in range(4)]) for _ in range(2))
    for name, array in vars(first).items():
        np.testing.assert_array_equal(array, getattr(again, name))


def test_what_is_held_out_was_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning_nndyn.evaluation.cohort.held_out as module

    fitted: list[list[tuple[str, str]]] = []
    monkeypatch.setattr(
        module,
        "fit_standing_model",
        lambda sweeps, leave_out: fitted.append([(s.family, s.dataset) for s in sweeps]),
    )
    sweeps = [
        made_up_sweep(0, family, dataset)
        for family in ("resnet", "preactivation_resnet", "mlp", "vgg")
        for dataset in ("digits", "cifar10")
    ]
    for (_, unseen), others in zip(held_out_models(sweeps), fitted, strict=False):
        for sweep in unseen:
            group = next(group for group in FAMILY_GROUPS if sweep.family in group)
            assert others and not [of for of in others if of[0] in group or of[1] == sweep.dataset]
    assert len(fitted) == 6
    alone = list(held_out_models(sweeps, leave_out_datasets=False))
    assert len(alone) == 3 and len(fitted) == 9


def test_inputs_that_are_left_out_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_STEPS", 10)
    model = fit.fit_standing_model([made_up_sweep(0)], leave_out=CURVE_INPUTS)
    table = np.random.default_rng(0).normal(size=(8, len(INPUTS)))
    other = table.copy()
    other[:, [INPUTS.index(name) for name in CURVE_INPUTS]] += 1
    np.testing.assert_array_equal(model(table), model(other))
    other[:, 0] += 1
    assert not np.array_equal(model(table), model(other))


def test_a_sweep_is_replayed_run_by_run() -> None:
    sweep, order = made_up_sweep(1), list(range(24))
    best = int(np.argmax([run.value for run in sweep.runs]))
    all_of_it = replayed(sweep, lambda run, ended: Decision(False, "", 0.0), order)
    assert (all_of_it.epochs, all_of_it.regret, all_of_it.lost) == (1, 0, 0)
    seen: list[int] = []

    def stops_the_best(run: SweepRun, ended: list[SweepRun]) -> Decision:
        seen.append(len(ended))
        assert all(one.stopped == (one.value is None) for one in ended)
        return Decision(len(ended) == best and run.readings[-1].time == 1, "", 1.0)

    lost = replayed(sweep, stops_the_best, order)
    assert lost.epochs == pytest.approx(1 - 7 / 8 / 24) and lost.lost == pytest.approx(1 / 6)
    assert lost.regret >= 0 and sorted(set(seen)) == order
    median = pruned(sweep, "median", order, seed=0)
    assert median.epochs < 0.9 and median.regret < 0.2


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
