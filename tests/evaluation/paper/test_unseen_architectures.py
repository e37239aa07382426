"""Networks that no training run had."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from paper_material import values

from lightning_nndyn.evaluation import RunDataset
from lightning_nndyn.evaluation.paper.classification import fitted
from lightning_nndyn.evaluation.paper.features import (
    SETTINGS,
)
from lightning_nndyn.evaluation.paper.published_numbers import (
    subject_of,
)
from lightning_nndyn.evaluation.paper.unseen_architectures import pairings, unseen

pytestmark = pytest.mark.needs("pyarrow")


def test_corpora_are_paired_across_networks_on_one_data_set(
    study: RunDataset, perceptrons: RunDataset
) -> None:
    def renamed(name: str, network: str, dataset: str = "digits") -> RunDataset:
        records = [
            replace(one, config=one.config | {"network": network, "dataset": dataset})
            for one in study.records[:3]
        ]
        return replace(study.take(np.arange(3)), name=name, records=tuple(records))

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


def test_a_corpus_of_several_networks_is_not_paired(perceptrons: RunDataset, study: RunDataset) -> None:
    first = perceptrons.records[0]
    wider = replace(
        first, config=first.config | {"network_options": first.config["network_options"] | {"widths": (64,)}}
    )
    mixed = replace(perceptrons, records=(wider, *perceptrons.records[1:]))
    assert subject_of(perceptrons) == ("zoo_network", "digits") and subject_of(mixed) is None
    assert list(pairings([study, mixed])) == []


def test_another_networks_runs_are_classified_by_the_tested_corpus_threshold(
    study: RunDataset, perceptrons: RunDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning_nndyn.evaluation.paper import unseen_architectures

    seen: list[tuple[int, int]] = []

    def noted(kind: Any, x: Any, low: Any, seed: int) -> Any:
        seen.append((len(x), int(low.sum())))
        return fitted(kind, x, low, seed)

    monkeypatch.setattr(unseen_architectures, "fitted", noted)
    rows = list(unseen([study, perceptrons], [SETTINGS["graph-paper-svm"]], times=[1.0], seed=0))
    good = int((study.accuracies >= 0.7).sum())  # not 0.5, the training corpus's own
    own = [row for row in rows if row.corpus == "mlp-digits"]
    assert seen[5:] == [(2 * good, good)] * 5
    assert {(row.band, row.runs) for row in own} == {("from lenet5-digits", 20)}
    assert [(row.method, row.metric) for row in own] == [
        ("majority", "accuracy"), ("graph-paper-svm", "accuracy"), ("graph-paper-svm", "auc")
    ]  # fmt: skip
    assert {row.band for row in rows if row.corpus == "lenet5-digits"} == {"from mlp-digits"}


def test_a_network_whose_twin_was_seen_is_no_riddle(perceptrons: RunDataset) -> None:
    """The paper's first experiment at its easiest: the same runs, told to be of another network."""
    records = [replace(one, config=one.config | {"network": "other"}) for one in perceptrons.records]
    twin = replace(perceptrons, name="twin", records=tuple(records))
    found = values(unseen([perceptrons, twin], [SETTINGS["graph-paper-mlp"]], times=[2.0], seed=0))
    assert found["from twin", "graph-paper-mlp", 2.0, "accuracy"] > 0.9
    assert found["from twin", "graph-paper-mlp", 2.0, "auc"] > 0.95
