"""Runs are ranked among each other: whatever their order, their times, and what has become of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cohorts import random_runs as runs

from lightning_nndyn.errors import ArtefactError
from lightning_nndyn.sweep import Reading, SweepRun, rank
from lightning_nndyn.sweep.cohort import INPUTS
from lightning_nndyn.sweep.standing import StandingModel, chance_among_best, shipped_model, standings


def curves(values: list[float], time: float = 2.0) -> list[SweepRun]:
    """Runs of which only the metric is known."""
    return [SweepRun({}, [Reading(time, (), (value, value, 0.01))]) for value in values]


def with_later(run: SweepRun, later: SweepRun) -> SweepRun:
    return replace(run, readings=[*run.readings, *later.readings])


def test_the_better_metric_ranks_higher() -> None:
    scores = rank(curves([0.3, 0.9, 0.1, 0.5, 0.7]))
    assert list(np.argsort(scores)) == [2, 0, 3, 4, 1]
    assert all(isinstance(score, float) for score in scores)


@pytest.mark.parametrize("count", [3, 50, 150])
def test_the_order_of_the_runs_does_not_matter(count: int) -> None:
    pairs = zip(runs(count, 0.25), runs(count, 1.0, 1), strict=True)
    some = [with_later(early, late) if i % 2 else early for i, (early, late) in enumerate(pairs)]
    order = np.random.default_rng(1).permutation(count)
    shuffled = rank([some[index] for index in order])
    assert [rank(some)[index] for index in order] == shuffled


def test_a_run_that_has_diverged_is_the_last() -> None:
    some = [*runs(6, 0.5), SweepRun({"lr": 10.0}, [Reading(0.5)])]
    assert int(np.argmin(rank(some))) == 6


def test_a_later_time_only_changes_places_among_those_who_reached_it() -> None:
    early = curves([0.1, 0.2, 0.3, 0.4, 0.5], 1.0)
    late = curves([0.9, 0.0, 0.0, 0.4, 0.0])
    turned = [with_later(early[i], late[i]) if i in (0, 3) else early[i] for i in range(5)]
    before, after = rank(early), rank(turned)
    assert [after[i] for i in (1, 2, 4)] == [before[i] for i in (1, 2, 4)]
    assert after[0] == before[3] and after[3] == before[0]


def test_finished_runs_are_ordered_by_their_values() -> None:
    some = [
        replace(run, value=value) for run, value in zip(curves([0.5, 0.6, 0.7]), (0.9, 0.8, 0.7), strict=True)
    ]
    assert list(np.argsort(rank(some))) == [2, 1, 0]
    assert list(np.argsort(rank(some, direction="minimize"))) == [0, 1, 2]
    unread = [SweepRun(value=0.2), SweepRun(), SweepRun(value=0.9)]  # of none is anything known but its end
    assert list(np.argsort(rank(unread))) == [0, 1, 2]
    assert list(np.argsort(rank(unread, direction="minimize"))) == [2, 1, 0]


def test_little_is_known_of_few_runs() -> None:
    assert rank([]) == [] and rank([SweepRun()]) == [0.0]
    alone = rank(curves([0.5]))
    assert len(alone) == 1 and np.isfinite(alone).all()
    assert rank([SweepRun({"lr": 0.1}), SweepRun({"lr": 1.0}), SweepRun()]) == [0.0] * 3
    assert len(set(rank(curves([0.5, 0.5, 0.5])))) == 1


def test_a_standing_comes_with_how_sure_it_is() -> None:
    mean, std = standings(curves([0.1, 0.5, 0.9]), 2.0)
    assert mean.shape == std.shape == (3,) and (std > 0.05).all()
    chances = [chance_among_best(*one, 0.25) for one in zip(mean, std, strict=True)]
    assert (np.diff(chances) > 0).all()
    assert all(chance_among_best(*one, 1.0) == 1 for one in zip(mean, std, strict=True))
    assert all(chance_among_best(*one, 0.0) == 0 for one in zip(mean, std, strict=True))


def test_what_is_saved_is_loaded_as_it_was(tmp_path: Path) -> None:
    model = shipped_model()
    model.save(tmp_path / "again.npz")
    table = np.random.default_rng(0).normal(size=(9, len(INPUTS)))
    again = StandingModel.load(tmp_path / "again.npz")(table)
    np.testing.assert_allclose(again, model(table))


@pytest.mark.parametrize("wrong", ["missing", "text", "pickle", "shape", "nan", "inputs"])
def test_a_file_that_is_no_such_model_is_refused(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "model.npz"
    shipped_model().save(path)
    arrays = dict(np.load(path))
    if wrong == "missing":
        path.unlink()
    elif wrong == "text":
        path.write_text("no model")
    else:
        arrays |= {
            "pickle": {"first": np.array([{}], dtype=object)},
            "shape": {"last": arrays["last"][:, :-1]},
            "nan": {"linear": arrays["linear"] * np.nan},
            "inputs": {"inputs": arrays["inputs"][:-1]},
        }[wrong]
        np.savez(path, **arrays)
    with pytest.raises(ArtefactError, match=r"model\.npz is no model of standings"):
        StandingModel.load(path)


@pytest.mark.slow
def test_ranking_needs_neither_lightning_nor_scikit_learn() -> None:
    script = (
        "import sys\nfrom lightning_nndyn.sweep import Reading, SweepRun, rank\n"
        "rank([SweepRun({}, [Reading(1.0, (), (float(i), 0.0, 0.0))]) for i in range(4)])\n"
        "print([name for name in ('lightning', 'sklearn', 'skops', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
