"""What a network is (kinds of its layers, depth, topology), and whether a predictor knows such networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import digits_runs
import numpy as np
import pytest
import torch
from synthetic_runs import corpus, diverged, history, paper
from torch import Tensor, nn
from torch.nn import functional as F

import lightning_nndyn as nd
from lightning_nndyn.corpus import GridPreset, RunRecord, load_corpus, run_corpus
from lightning_nndyn.corpus.presets.zoo import draw_run
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.training.data import load_digits_data
from lightning_nndyn.corpus.training.network import build_network, layer_kinds, network_options
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation.dataset import history_of
from lightning_nndyn.predictor import Predictor, TrainingSetup
from lightning_nndyn.predictor.domain import describe_domain, why_out_of_domain
from lightning_nndyn.predictor.policy import Policy
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import STATISTICS, Snapshot

# -- the kinds of a graph's layers ---------------------------------------------------------------------------

IMAGE = torch.zeros(2, 4, 8, 8)
SEQUENCE = torch.zeros(2, 5, 8)
WORDS = torch.zeros(2, 5, dtype=torch.long)


class Piped(nn.Module):
    """A function of the input, pooled, and a linear layer: the function may need modules of its own."""

    def __init__(self, body: Callable[..., Tensor], *modules: nn.Module, out: int) -> None:
        super().__init__()
        self.body, self.inner, self.head = body, nn.ModuleList(modules), nn.Linear(out, 3)

    def forward(self, x: Tensor) -> Tensor:
        made = self.body(x, *self.inner)
        axes = [0, *range(2, made.dim())] if made.dim() == 4 else [1]
        return self.head(made.mean(axes).view(-1, self.head.in_features))


def convolved(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 8, 1), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.table.clone().t()


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
@pytest.mark.parametrize(
    ("model", "example", "kinds"),
    [
        (convolved(nn.Conv2d(8, 8, 3)), IMAGE, ["conv2d", "linear"]),
        (convolved(nn.Conv2d(8, 8, 3, groups=2)), IMAGE, ["conv2d", "grouped_conv2d", "linear"]),
        (convolved(nn.Conv2d(8, 16, 3, groups=8)), IMAGE, ["conv2d", "depthwise_conv2d", "linear"]),
        (convolved(nn.ConvTranspose2d(8, 4, 3)), IMAGE, ["conv2d", "conv_transpose2d", "linear"]),
        (nn.Sequential(nn.Conv1d(5, 4, 3), nn.Flatten()), SEQUENCE, ["conv1d"]),
        (nn.Sequential(nn.Conv3d(4, 2, 1), nn.Flatten()), IMAGE[..., None], ["conv3d"]),
        (nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 2)), WORDS, ["embedding", "linear"]),
        (Piped(lambda x, one: x @ one.weight, nn.Linear(8, 8), out=8), SEQUENCE, ["linear"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_graph_tells_the_kinds_of_its_layers(
    model: nn.Module, example: Tensor, kinds: list[str], topology: Any
) -> None:
    model(example)  # lazy layers get their size
    assert list(nd.rolled_graph(model, example, topology=topology).kinds) == kinds


def by_hand(x: Tensor, q: nn.Module, k: nn.Module, v: nn.Module) -> Tensor:
    return (q(x) @ k(x).transpose(1, 2)).softmax(-1) @ v(x)


def by_einsum(x: Tensor, q: nn.Module, k: nn.Module, v: nn.Module) -> Tensor:
    return torch.einsum("bij,bjd->bid", torch.einsum("bid,bjd->bij", q(x), k(x)).softmax(-1), v(x))


def fused(x: Tensor, q: nn.Module, k: nn.Module, v: nn.Module) -> Tensor:
    return F.scaled_dot_product_attention(q(x), k(x), v(x))


def to_itself(x: Tensor, layer: nn.Module) -> Tensor:
    return layer(x, x, x)[0]


def linears(count: int) -> list[nn.Module]:
    return [nn.Linear(8, 8) for _ in range(count)]


def cells(x: Tensor, cell: nn.Module) -> Tensor:
    state = None
    for token in x.unbind(1):
        state = cell(token, state)
    return (state[0] if isinstance(state, tuple) else state).unsqueeze(1)


def first(x: Tensor, layer: nn.Module) -> Tensor:
    return layer(x)[0]


@pytest.mark.parametrize(
    ("body", "modules", "kinds"),
    [
        (by_hand, linears(3), ["attention", "linear"]),
        (by_einsum, linears(3), ["attention", "linear"]),
        (fused, linears(3), ["attention", "linear"]),
        (to_itself, [nn.MultiheadAttention(8, 2, batch_first=True)], ["attention", "linear"]),
        (first, [nn.LSTM(8, 6, batch_first=True)], ["linear", "lstm"]),
        (first, [nn.GRU(8, 6, batch_first=True)], ["gru", "linear"]),
        (first, [nn.RNN(8, 6, batch_first=True, nonlinearity="relu")], ["linear", "rnn"]),
        (cells, [nn.LSTMCell(8, 6)], ["linear", "lstm"]),
        (cells, [nn.RNNCell(8, 6)], ["linear", "rnn"]),
        (lambda x, a, b: a(x) * b(x), linears(2), ["linear"]),
    ],
)  # fmt: skip
def test_recurrence_and_attention_are_kinds_however_they_are_written(
    body: Any, modules: list[nn.Module], kinds: list[str]
) -> None:
    model = Piped(body, *modules, out=body(SEQUENCE, *modules).shape[-1])
    assert list(nd.rolled_graph(model, SEQUENCE, topology="dataflow").kinds) == kinds


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_a_layer_of_the_users_own_is_of_the_kind_of_its_class(topology: Any) -> None:
    nd.register_layer(Own, "table")
    graph = nd.rolled_graph(nn.Sequential(Own(), nn.Linear(8, 3)), SEQUENCE, topology=topology)
    assert graph.kinds == ("Own", "linear")


def test_layers_given_by_name_have_kinds_too() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 1), nn.ConvTranspose2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=8))
    assert nd.rolled_graph(model, layers=["0", "1", "2"]).kinds == (
        "conv2d",
        "conv_transpose2d",
        "depthwise_conv2d",
    )


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_depth_counts_the_layers_that_weights_lead_to(topology: Any) -> None:
    deep = nn.Sequential(*[layer for _ in range(40) for layer in (nn.Linear(8, 8), nn.ReLU())])
    assert nd.rolled_graph(deep, SEQUENCE, topology=topology).depth == 40
    words = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    assert nd.rolled_graph(words, WORDS, topology=topology).depth == 2


# -- snapshots tell it ---------------------------------------------------------------------------------------


def read(model: nn.Module, example: Tensor, **settings: Any) -> Snapshot:
    return SnapshotReader(nd.rolled_graph(model, example, **settings), per_layer=True).read(0.0)


def residual() -> nn.Module:
    return Piped(lambda x, a, b: a(x) + b(a(x)), nn.Linear(8, 8), nn.Linear(8, 8), out=8)


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_a_snapshot_tells_what_the_network_is_also_when_it_has_diverged(topology: Any) -> None:
    model = residual()
    snapshot = read(model, SEQUENCE, topology=topology)
    with torch.no_grad():
        model.head.weight[0, 0] = torch.nan
    broken = read(model, SEQUENCE, topology=topology)
    assert snapshot.finite and not broken.finite
    depth = {"chain": 3, "dataflow": 4}[topology]
    for one in (snapshot, broken):
        assert (one.topology, one.kinds, one.depth) == (topology, ("linear",), depth)
    assert Snapshot.from_dict(json.loads(json.dumps(snapshot.to_dict()))) == snapshot


def test_a_snapshot_of_before_says_only_what_its_layers_tell() -> None:
    snapshot = read(residual(), SEQUENCE)
    plain = snapshot.to_dict()
    for name in ("topology", "kinds", "depth"):
        del plain[name]
    assert Snapshot.from_dict(plain) == replace(snapshot, kinds=())
    assert Snapshot.from_dict({**plain, "layers": {}}).depth == 0


# -- the domain ----------------------------------------------------------------------------------------------

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
        ((15, 25), None, ""),
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


def test_what_no_run_of_the_corpus_tells_is_held_against_nobody() -> None:
    silent = domain(start(kinds=(), depth=0))
    assert why_out_of_domain(silent, start(kinds=("lstm",), depth=90)) == ""
    half = domain(start(), start(kinds=(), depth=0))
    assert (half["kinds"], half["depth"]) == (["conv2d", "linear"], [6, 6])


def test_a_domain_of_before_knows_chains_of_any_kind_and_depth() -> None:
    added = ("topology", "kinds", "depth", "most_epochs")
    old = {name: value for name, value in domain().items() if name not in added}
    assert why_out_of_domain(old, start(kinds=("lstm",), depth=90)) == ""
    assert "of topology 'dataflow'" in why_out_of_domain(old, start(topology="dataflow"))


# -- predictors ----------------------------------------------------------------------------------------------


def having(run: list[Snapshot], **facts: Any) -> list[Snapshot]:
    return [replace(snapshot, **facts) for snapshot in run]


def fitted(**facts: Any) -> Predictor:
    histories, accuracies = corpus(40, noise=0.2)
    return paper(low_threshold=0.5).fit([having(run, **facts) for run in histories], accuracies)


def slow(**facts: Any) -> list[Snapshot]:
    return having(history(np.random.default_rng(1), 1e-5), **facts)


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_a_predictor_keeps_silent_about_the_other_topology_but_for_divergence(
    topology: Any, tmp_path: Path
) -> None:
    other = {"chain": "dataflow", "dataflow": "chain"}[topology]
    fitted(topology=topology).save(tmp_path / "made-up")
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
    predictor = fitted(**LIKE)
    assert predictor.predict(slow(**LIKE)).in_domain
    note = predictor.predict(slow(kinds=("conv2d", "grouped_conv2d"), depth=100)).note
    assert note == (
        "it has layers of kinds the corpus has not: grouped_conv2d; it is 100 layers deep, the corpus 6"
    )


def test_mixed_topologies_are_refused_and_named() -> None:
    histories, accuracies = corpus(20)
    mixed = [having(run, topology="dataflow") if i % 2 else run for i, run in enumerate(histories)]
    with pytest.raises(
        PredictorError,
        match=r"'chain' \(run 0, run 2, run 4 and 7 more\) and 'dataflow' \(run 1, run 3, run 5 and 7 more\)",
    ):
        paper(low_threshold=0.5).fit(mixed, accuracies)
    with pytest.raises(PredictorError, match=r"'dataflow' \(run 19\)"):
        paper(low_threshold=0.5).fit([*histories[:-1], mixed[-1]], accuracies)


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


# -- corpora -------------------------------------------------------------------------------------------------

TINY = GridPreset(
    "tiny", "lenet5", "digits", learning_rates=(0.01, 1e4), dropouts=(0.0,),
    crop_padding=1, flip=False, epochs=2, images=256, test_images=50,
)  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[RunRecord]:
    folder = tmp_path_factory.mktemp("corpora") / "tiny"
    run_corpus(TINY, folder, jobs=1, progress=False)
    return load_corpus(folder)


def of_before(record: RunRecord) -> RunRecord:
    """As it was written before records told what the network is."""
    plain = json.loads(json.dumps(record.to_dict()))
    for snapshot in plain["snapshots"]:
        for name in ("topology", "kinds", "depth"):
            del snapshot[name]
    return RunRecord.from_dict(plain)


def test_new_recordings_tell_what_the_network_is(records: list[RunRecord]) -> None:
    assert [record.diverged_epoch is None for record in records] == [True, False]
    for record in records:
        facts = {(one.topology, one.kinds, one.depth) for one in record.snapshots}
        assert facts == {("chain", ("conv2d", "linear"), 5)}


def test_of_older_recordings_it_is_found_out_from_their_configuration(records: list[RunRecord]) -> None:
    for record in records:
        old = of_before(record)
        assert old.snapshots[0].kinds == ()
        assert history_of(old)[0] == history_of(record)[0]
        assert {one.kinds for one in history_of(old)} == {("conv2d", "linear")}


@pytest.mark.parametrize("seed", range(6))
def test_the_kinds_that_are_found_out_are_those_of_the_graph(seed: int) -> None:
    drawn = draw_run(np.random.default_rng(seed), "band") | {"dataset": "digits"}
    config, data = RunConfig(preset="zoo", index=0, seed=0, epochs=1, **drawn), load_digits_data()
    snapshot = read(build_network(config, data), torch.zeros(2, 1, 8, 8))
    record: Any = SimpleNamespace(
        config={"network": config.network, "network_options": network_options(config, data)},
        snapshots=[replace(snapshot, kinds=())],
    )
    random = torch.get_rng_state()
    assert layer_kinds(record) == snapshot.kinds != ()
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize(
    "change",
    [{"network": "a_network_of_tomorrow"}, {"network_options": {"an_option_of_tomorrow": 1}}],
)
def test_networks_that_are_not_to_be_had_are_of_unknown_kinds(
    records: list[RunRecord], change: dict[str, Any]
) -> None:
    old = of_before(records[0])
    assert layer_kinds(replace(old, config=old.config | change)) == ()
    bare = [replace(snapshot, layers={}) for snapshot in old.snapshots]
    assert layer_kinds(replace(old, snapshots=bare)) == ()


def test_what_is_read_of_a_graph_of_one_sign_is_of_unknown_kinds() -> None:
    unrolled = nd.unrolled_graph(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Linear(4, 2)), torch.ones(1, 1, 4, 4)
    )
    snapshot = SnapshotReader(unrolled.positive()).read(0.0)
    assert (snapshot.kinds, snapshot.depth, snapshot.topology) == ((), 2, "chain")
