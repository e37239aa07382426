"""Features of the paper's methods, computed by hand."""

from dataclasses import replace

import numpy as np
import pytest
from paper_material import statistics

from lightning_nndyn.evaluation import METHODS, RunDataset
from lightning_nndyn.evaluation.paper import (
    MAIN,
    PAPER_METHODS,
)
from lightning_nndyn.evaluation.paper.features import (
    SETTINGS,
    Setting,
    epochs_read,
    signatures,
    snapshot_pairs,
)

pytestmark = pytest.mark.needs("pyarrow")


def test_the_bare_names_are_degree_and_plain() -> None:
    assert SETTINGS["graph-paper-svm"] == Setting("svm", "degree", "plain")
    assert SETTINGS["graph-paper-mlp-eigenvector-plain"] == Setting("mlp", "eigenvector", "plain")
    assert len(SETTINGS) == 12 and set(MAIN) == {"graph-paper-svm", "graph-paper-mlp"}
    assert len({*PAPER_METHODS, *METHODS}) == len(PAPER_METHODS) + len(METHODS)


def test_a_signature_is_the_statistics_of_epochs_one_after_the_other(study: RunDataset) -> None:
    places = np.array([3, 40])
    epochs = epochs_read(study.records, 3.0)
    assert epochs == [1.0, 2.0, 3.0] and epochs_read(study.records, 1 / 8) == [1 / 16, 1 / 8]
    by_hand = [
        np.concatenate([statistics(study.records[place], epoch)[:5] for epoch in (0, 1, 2, 3)])
        for place in places
    ]
    assert (signatures(study, places, epochs, "degree", "plain") == by_hand).all()


def test_the_forms_are_weighted_means_of_what_was(study: RunDataset) -> None:
    first, second, third = (statistics(study.records[40], epoch)[5:] for epoch in (0, 1, 2))
    place = np.array([40])
    linear = signatures(study, place, [1.0, 2.0], "eigenvector", "linear")[0]
    assert linear[-5:] == pytest.approx((first + 2 * second + 3 * third) / 6)
    exponential = signatures(study, place, [1.0, 2.0], "eigenvector", "exponential")[0]
    assert exponential[-5:] == pytest.approx(third / 2 + second / 4 + first / 4)


def test_epochs_that_a_run_was_not_read_at_are_not_asked_for(study: RunDataset) -> None:
    first = study.records[0]
    gap = replace(first, snapshots=[one for one in first.snapshots if one.epoch != 2])
    assert epochs_read([gap, study.records[1]], 4.0) == [1.0, 3.0, 4.0]


@pytest.mark.parametrize("pair", [(0, 2), (1, 3)])
def test_a_pair_is_two_epochs_and_nothing_else(study: RunDataset, pair: tuple[int, int]) -> None:
    found = snapshot_pairs(study, np.array([40]), pair, "degree")[0]
    assert (found == np.concatenate([statistics(study.records[40], epoch)[:5] for epoch in pair])).all()
