"""Whether a predictor knows such networks and such training: the facts of the domain."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import digits_runs
import numpy as np
import pytest
import torch
from synthetic_runs import RUNS, corpus, diverged, history, paper, runs, snapshot
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.predictor import Predictor, TrainingSetup
from lightning_nndyn.predictor.domain import describe_domain, why_out_of_domain
from lightning_nndyn.predictor.policy import Policy
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import STATISTICS, Snapshot

LIKE = {"kinds": ("conv2d", "linear"), "depth": 6}


def start(**facts: Any) -> Snapshot:
    return replace(Snapshot(0.0, (1.0,) * len(STATISTICS), 1.0, 0.0, 1, 100, 1000), **{**LIKE, **facts})


def domain(*firsts: Snapshot) -> dict[str, Any]:
    """As it reads back from a card."""
    found = describe_domain(firsts or (start(), start(kinds=("linear",), depth=9)), range(len(STATISTICS)))
    return json.loads(json.dumps(found))


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({}, ""),
        ({"kinds": ("linear",)}, ""),
        ({"kinds": ("conv2d", "linear", "lstm")}, "it has layers of kinds the corpus has not: lstm"),
        ({"kinds": ("gru", "lstm")}, "it has layers of kinds the corpus has not: gru, lstm"),
        ({"depth": 4}, ""),
        ({"depth": 13}, ""),
        ({"depth": 3}, "it is 3 layers deep, the corpus 6 to 9"),
        ({"depth": 14}, "it is 14 layers deep, the corpus 6 to 9"),
        ({"topology": "dataflow"}, "its graph is of topology 'dataflow', the corpus' of 'chain'"),
        ({"kinds": (), "depth": 0}, ""),
    ],
)  # fmt: skip
def test_what_the_corpus_has_not_is_named(facts: dict[str, Any], why: str) -> None:
    assert why_out_of_domain(domain(), start(**facts)) == why


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"num_nodes": 50, "num_edges": 500}, ""),
        ({"num_nodes": 240, "num_edges": 6000}, ""),
        ({"num_nodes": 49}, "num_nodes before training is 49, the corpus has 100 to 120"),
        ({"num_nodes": 241}, "num_nodes before training is 241, the corpus has 100 to 120"),
        ({"num_edges": 499}, "num_edges before training is 499, the corpus has 1000 to 3000"),
        ({"num_edges": 6001}, "num_edges before training is 6001, the corpus has 1000 to 3000"),
    ],
)  # fmt: skip
def test_where_sizes_differ_half_the_smallest_to_twice_the_largest_are_known(
    facts: dict[str, Any], why: str
) -> None:
    several = domain(start(), start(num_nodes=120, num_edges=3000))
    assert why_out_of_domain(several, start(**facts)) == why


@pytest.mark.parametrize(("steps", "known"), [(66, False), (67, True), (300, True), (301, False)])
def test_an_epoch_has_two_thirds_to_one_and_a_half_times_the_known_steps(steps: float, known: bool) -> None:
    setups = [TrainingSetup(100, "sgd"), TrainingSetup(200, "sgd")]
    corpus_domain = describe_domain([start()], [], setups)
    assert (why_out_of_domain(corpus_domain, start(), TrainingSetup(steps, "sgd")) == "") is known


def test_a_statistic_has_one_and_a_half_times_the_distance_of_the_quantiles_as_margin() -> None:
    firsts = [start(statistics=(float(value),) * len(STATISTICS)) for value in range(101)]
    corpus_domain = domain(*firsts)
    assert corpus_domain["statistics"]["degree_mean"] == pytest.approx([5 - 135, 95 + 135])

    def why(value: float) -> str:
        return why_out_of_domain(corpus_domain, start(statistics=(value, *firsts[50].statistics[1:])))

    assert [why(-130.0), why(230.0)] == [""] * 2
    assert why(230.1).startswith("degree_median before training is 230.1")
    assert why(-130.1).startswith("degree_median before training is -130.1")
    nearly = domain(start(), start(statistics=(1.01,) * len(STATISTICS)))["statistics"]["degree_mean"]
    assert nearly == pytest.approx([1.0005 - 0.03 * 1.005, 1.0095 + 0.03 * 1.005], rel=1e-9)


def test_all_reasons_are_given_together() -> None:
    found = why_out_of_domain(
        domain(), start(kinds=("gru",), depth=90, num_nodes=101), TrainingSetup(optimizer="lion")
    )
    assert found == (
        "it has layers of kinds the corpus has not: gru; it is 90 layers deep, the corpus 6 to 9; "
        "num_nodes before training is 101, the corpus has 100 to 100"
    )


@pytest.mark.parametrize(
    ("corpus", "planned", "why"),
    [
        ((15, 25), 25, ""),
        ((15, 25), 3, ""),  # what it would reach if it went on says enough of where it ends
        ((15, 25), 0, ""),
        ((15, 25), None, ""),
        ((0.25,), 0.5, "it is planned for 0.5 epochs, the corpus' runs for 0.25 at most"),
        ((15, 25), 25.5, "it is planned for 25.5 epochs, the corpus' runs for 25 at most"),
        ((15, 25), -1, "it is planned without end, the corpus' runs for 25 at most"),
        ((15, -1), 1000, ""),
        ((15, None), 1000, ""),
        ((), 1000, ""),
    ],
)
def test_a_run_longer_than_all_of_the_corpus_is_not_known(
    corpus: tuple[float | None, ...], planned: float | None, why: str
) -> None:
    known = describe_domain([start()], [], [TrainingSetup(planned_epochs=epochs) for epochs in corpus])
    assert (
        why_out_of_domain(json.loads(json.dumps(known)), start(), TrainingSetup(planned_epochs=planned))
        == why
    )


def test_of_graphs_that_show_different_things_no_numbers_are_compared() -> None:
    strange = start(topology="dataflow", kinds=("lstm",), depth=90, num_nodes=7)
    assert (
        why_out_of_domain(domain(), strange) == "its graph is of topology 'dataflow', the corpus' of 'chain'"
    )
    assert why_out_of_domain(domain(start(topology="dataflow")), start()).endswith(
        "'chain', the corpus' of 'dataflow'"
    )
    assert why_out_of_domain(domain(start(topology="dataflow")), start(topology="dataflow")) == ""


def test_facts_known_of_no_run_of_the_corpus_restrict_nothing() -> None:
    silent = domain(start(kinds=(), depth=0))
    assert why_out_of_domain(silent, start(kinds=("lstm",), depth=90)) == ""
    half = domain(start(), start(kinds=(), depth=0))
    assert (half["kinds"], half["depth"]) == (["conv2d", "linear"], [6, 6])


def test_a_domain_of_before_knows_chains_of_any_kind_and_depth() -> None:
    added = ("topology", "kinds", "depth", "most_epochs")
    old = {name: value for name, value in domain().items() if name not in added}
    assert why_out_of_domain(old, start(kinds=("lstm",), depth=90)) == ""
    assert "of topology 'dataflow'" in why_out_of_domain(old, start(topology="dataflow"))


def having(run: list[Snapshot], **facts: Any) -> list[Snapshot]:
    return [replace(snapshot, **facts) for snapshot in run]


def fitted_to(**facts: Any) -> Predictor:
    histories, accuracies = corpus(40, noise=0.2)
    return paper(low_threshold=0.5).fit([having(run, **facts) for run in histories], accuracies)


def slow(**facts: Any) -> list[Snapshot]:
    return having(history(np.random.default_rng(1), 1e-5), **facts)


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_the_other_topology_is_out_of_domain_and_stops_for_divergence_alone(
    topology: Any, tmp_path: Path
) -> None:
    other = {"chain": "dataflow", "dataflow": "chain"}[topology]
    fitted_to(topology=topology).save(tmp_path / "made-up")
    predictor = Predictor.load(tmp_path / "made-up")
    policy = Policy.from_predictor(predictor, threshold=0.5)
    assert predictor.topology == topology
    assert policy.decide([predictor.predict(slow(topology=topology))]).stop
    verdict = predictor.predict(slow(topology=other))
    assert not verdict.in_domain and f"of topology '{other}', the corpus' of '{topology}'" in verdict.note
    decision = policy.decide([verdict])
    assert not decision.stop and f"of topology '{other}'" in decision.reason
    dead = [*slow(topology=other)[:2], replace(diverged(0.5), topology=other)]
    verdict = predictor.predict(dead)
    assert not verdict.in_domain and policy.decide([verdict]).stop


def test_a_predictor_says_which_kinds_and_what_depth_it_does_not_know() -> None:
    predictor = fitted_to(**LIKE)
    assert predictor.predict(slow(**LIKE)).in_domain
    note = predictor.predict(slow(kinds=("conv2d", "grouped_conv2d"), depth=100)).note
    assert note == (
        "it has layers of kinds the corpus has not: grouped_conv2d; it is 100 layers deep, the corpus 6"
    )


def read(model: nn.Module, example: Tensor, **settings: Any) -> Snapshot:
    return SnapshotReader(nd.rolled_graph(model, example, **settings), per_layer=True).read(0.0)


def test_a_predictor_of_real_runs_knows_them_and_no_hundred_layers_and_no_groups() -> None:
    known = digits_runs.predictor()
    assert (known.card["domain"]["kinds"], known.card["domain"]["depth"]) == (["conv2d", "linear"], [5, 5])
    assert known.topology == "chain"
    runs = [run for run, _ in digits_runs._runs()]
    assert not any(why_out_of_domain(known.card["domain"], run[0]) for run in runs)
    deep = [m for i in range(99) for m in (nn.Conv2d(16 if i else 1, 16, 3, padding=1), nn.ReLU())]
    model = nn.Sequential(*deep, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    assert "it is 100 layers deep, the corpus 5;" in why_out_of_domain(
        known.card["domain"], read(model, torch.zeros(2, 1, 8, 8))
    )
    grouped = digits_runs.network()
    grouped[3] = nn.Conv2d(6, 16, 5, padding=2, groups=2)
    assert "it has layers of kinds the corpus has not: grouped_conv2d;" in why_out_of_domain(
        known.card["domain"], read(grouped, torch.zeros(2, 1, 8, 8))
    )


def test_the_default_predictor_knows_networks_a_little_larger_than_all_of_its_corpora() -> None:
    known = nd.load_predictor("universal").card["domain"]
    most = known["num_edges"][1]
    typical = tuple(sum(known["statistics"][name]) / 2 for name in STATISTICS)
    first = start(depth=18, num_nodes=4000, statistics=typical)

    def why(edges: float) -> str:
        return why_out_of_domain(known, replace(first, num_edges=int(edges)))

    assert [why(most), why(1.016 * most), why(1.9 * most)] == [""] * 3
    assert "num_edges before training" in why(2.1 * most)
    strange = replace(first, num_edges=int(1.5 * most), statistics=(1e3, *first.statistics[1:]))
    assert why_out_of_domain(known, strange).startswith("degree_median before training is 1000")


def run(speed: float = 1e-3, seed: int = 1, **changes: Any) -> list[Snapshot]:
    return history(np.random.default_rng(seed), speed, **changes)


@cache
def fitted() -> Predictor:
    return paper(low_threshold=0.5).fit(*corpus(80), corpus="made up")


def test_corpus_is_in_its_own_domain() -> None:
    assert all(fitted().predict(history).in_domain for history in corpus(80)[0])


def test_new_seeds_are_in_domain() -> None:
    assert all(fitted().predict(run(seed=seed)).in_domain for seed in range(200))


def test_other_size_is_out_of_domain() -> None:
    other = [snapshot(s.epoch, s.statistics, nodes=101) for s in run()]
    verdict = fitted().predict(other)
    assert not verdict.in_domain
    assert "num_nodes before training is 101, the corpus has 100 to 100" in verdict.note
    assert verdict.p_low == fitted().predict(run()).p_low


def test_other_initialisation_is_out_of_domain() -> None:
    wide = [snapshot(s.epoch, np.array(s.statistics) * ([1, 1, 2] + [1] * 7)) for s in run()]
    assert "degree_std before training" in fitted().predict(wide).note


def test_statistics_not_in_use_have_no_domain() -> None:
    predictor = paper(features="eigenvector", low_threshold=0.5).fit(*corpus(60))
    wide = [snapshot(s.epoch, np.array(s.statistics) * ([2] * 5 + [1] * 5)) for s in run()]
    assert predictor.predict(wide).in_domain


def test_optimizers_and_steps_of_any_run_of_the_corpus_are_known() -> None:
    histories, accuracies, curves = runs()
    training = [TrainingSetup(100 * (1 + i % 3), ("sgd", "adam")[i % 2]) for i in range(RUNS)]
    predictor = Predictor(low_threshold=0.5, max_epoch=0.25).fit(
        histories, accuracies, curves=curves, training=training
    )

    def note(steps: float, optimizer: str) -> str:
        return predictor.predict(histories[0], training=TrainingSetup(steps, optimizer)).note

    assert "optimizer" not in note(70, "sgd") + note(440, "adam")
    assert "500 optimizer steps" in note(500, "sgd")
    assert "trained by lion, the corpus by adam or sgd" in note(100, "lion")


def test_nothing_is_stopped_that_is_to_go_on_for_longer_than_any_run_of_the_corpus() -> None:
    histories, accuracies, curves = runs()
    training = [TrainingSetup(100, "sgd", planned_epochs=(10, 30)[i % 2]) for i in range(RUNS)]
    predictor = Predictor(low_threshold=0.5, max_epoch=0.25).fit(
        histories, accuracies, curves=curves, training=training
    )
    doomed, policy = histories[int(np.argmin(accuracies))], Policy(threshold=0.0)
    verdicts = {
        planned: predictor.predict(doomed, training=TrainingSetup(100, "sgd", planned_epochs=planned))
        for planned in (30, 31)
    }
    assert verdicts[31].p_low == verdicts[30].p_low > 0
    assert policy.decide([verdicts[30]]).stop
    assert "it is planned for 31 epochs" in policy.decide([verdicts[31]]).reason
    assert not policy.decide([verdicts[31]]).stop
