"""Thirty runs of a sweep against all other corpora."""

from __future__ import annotations

from made_up_corpora import three

from lightning_nndyn.evaluation.benchmark.few_own_runs import own_rows
from lightning_nndyn.evaluation.dataset import concatenate


def test_own_runs_are_held_against_what_others_teach() -> None:
    rows = list(own_rows(concatenate(three(), "universal"), three()[2], seed=0))
    assert {row.method for row in rows} == {"own-30", "universal"}
    assert {row.runs for row in rows} == {70} and {row.band for row in rows} == {"own sweep"}
    ranks = {(row.method, row.t): row.value or 0 for row in rows if row.metric == "spearman"}
    assert ranks["own-30", 3.0] > 0.5
