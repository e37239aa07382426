"""The chain: the longest path of the data flow, and the chains that recorded corpora rest on."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import zoo_custom as custom
from paths import ROOT
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.corpus import load_corpus
from lightning_nndyn.corpus.presets.zoo_networks import scale_weights, zoo_network
from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.tracing.chain import BESIDE, INPUT_EMBEDDING, longest_path
from lightning_nndyn.graph.tracing.layer_calls import LayerCall, LayerInput
from lightning_nndyn.graph.tracing.origins import ChannelOrigins
from lightning_nndyn.graph.tracing.parameters import Weight

# -- the longest path ----------------------------------------------------------------------------------------


def calls(**sources: tuple[int, ...]) -> dict[int, LayerCall]:
    """Calls with the numbers 0, 1, ..., each fed by the given ones; an embedding if its name is one."""

    def inputs(feeding: tuple[int, ...]) -> list[LayerInput]:
        return [
            LayerInput(Weight("w", lambda: torch.ones(1, 1)), ChannelOrigins((), frozenset(feeding)), -1, 1)
        ]

    return {
        number: LayerCall(name, name, 1, [] if name.startswith("embedding") else inputs(feeding))
        for number, (name, feeding) in enumerate(sources.items())
    }


@pytest.mark.parametrize(
    ("found", "path"),
    [
        (calls(a=(), b=(0,), c=(1,), d=(0, 2)), [0, 1, 2, 3]),
        (calls(a=(), left=(0,), right=(0,), join=(1, 2)), [0, 1, 3]),  # a tie: the earliest source
        (calls(a=(), first=(0,), second=(0,)), [0, 2]),  # a tie: the latest end
        (calls(a=(), head=(0,), aside=()), [0, 1]),
        (calls(embedding=(), a=(0,), b=(0, 1)), [1, 2]),  # an embedding is the graph's input
        (calls(a=()), [0]),
    ],
    ids=["skip", "tie-of-sources", "tie-of-ends", "apart", "embedding", "one"],
)
def test_the_longest_path(found: dict[int, LayerCall], path: list[int]) -> None:
    assert longest_path(found) == path


class Branching(nn.Module):
    """Two branches of different depth and width, concatenated, then flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.short = nn.Conv2d(4, 6, 1)
        self.long_a = nn.Conv2d(4, 5, 3, padding=1)
        self.long_b = nn.Conv2d(5, 7, 3, padding=1)
        self.join = nn.Conv2d(13, 8, 1)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = torch.cat([self.short(x), self.long_b(F.relu(self.long_a(x)))], dim=1)
        return self.fc(self.join(x).relu().flatten(1))


def test_concatenation_keeps_the_channels_of_the_main_path() -> None:
    model = Branching()
    graph = nd.rolled_graph(model, torch.zeros(2, 3, 4, 4))
    assert graph.layer_names == ("input", "stem", "long_a", "long_b", "join", "fc")
    assert graph.left_out == {"short": "beside the main path"}
    assert graph.num_edges == 3 * 4 + 4 * 5 + 5 * 7 + 7 * 8 + 8 * 10
    block = graph.blocks[3].values[0]
    torch.testing.assert_close(block, model.join.weight.detach()[:, 6:, 0, 0].abs())
    graph.refresh()
    torch.testing.assert_close(graph.blocks[3].values[0], model.join.weight.detach()[:, 6:, 0, 0].abs())


def test_residual_stream_and_projection() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
            self.projection = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.projection(x) + self.b(F.relu(self.a(x)))

    graph = nd.rolled_graph(
        nn.Sequential(Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    )
    assert graph.layer_names == ("input", "0.a", "0.b", "1.a", "1.b", "4")
    assert set(graph.left_out) == {"0.projection", "1.projection"}


def test_an_embedding_is_the_input() -> None:
    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.fc, self.out = nn.Embedding(9, 4), nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.fc(self.table(x)).relu().mean(1))

    graph = nd.rolled_graph(Text(), torch.zeros(2, 5, dtype=torch.long))
    assert graph.layer_sizes == (4, 6, 2)
    assert graph.left_out == {"table": INPUT_EMBEDDING} and graph.kinds == ("embedding", "linear")


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.fc = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.inner(x)[0][:, -1])


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(4, 4)
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self.fc(self.inner(x, x, x)[0])


class Mixing(nn.Module):
    """A spectrum of the channels: which channel goes where has no answer."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.fc = nn.Linear(4, 4), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.fft.rfft(self.before(x)).abs())


@pytest.mark.parametrize(
    ("model", "example", "layers", "left_out"),
    [
        (
            Recurrent(),
            torch.zeros(2, 3, 4),
            ["inner.l0", "fc"],
            {"inner.weight_hh_l0": "recurrent: its weights lead from the layer to itself"},
        ),
        (
            Attentive(),
            torch.zeros(2, 3, 4),
            ["before", "inner.q", "inner.out_proj", "fc"],
            {"inner.k": BESIDE, "inner.v": BESIDE},
        ),
        (Mixing(), torch.zeros(2, 4), ["before", "fc"], {}),
        (custom.Bilinear(), torch.zeros(2, 3), ["a", "out"], None),
        (custom.Cells(), torch.zeros(2, 3, 3), ["cell", "cell#2", "cell#3", "fc"], {}),
        (
            custom.Translator(),
            (custom.tokens(2, 5), custom.tokens(2, 4)),
            ["encoder.l0", "decoder.l0", "out"],
            None,
        ),
        (custom.EinsumAttention(), torch.zeros(2, 3, 5), None, None),
    ],
    ids=["lstm", "attention", "fft", "bilinear", "gru-cell", "seq2seq", "einsum"],
)
def test_what_has_a_data_flow_has_a_chain(
    model: nn.Module, example: Any, layers: list[str] | None, left_out: dict[str, str] | None
) -> None:
    graph = nd.rolled_graph(model, example)
    flow = nd.rolled_graph(model, example, topology="dataflow")
    assert graph.is_chain and all(block.target == block.source + 1 for block in graph.blocks)
    assert set(graph.layer_names[1:]) <= set(flow.layer_names)
    assert layers is None or list(graph.layer_names) == ["input", *layers]
    assert left_out is None or graph.left_out == left_out
    assert nd.SnapshotTaker(graph).take(0.0).topology == "chain"
    found = nd.eigenvector_centrality(graph)
    assert found.converged


def test_where_the_layout_is_hidden_every_channel_meets_the_whole_row() -> None:
    model = Mixing()
    graph = nd.rolled_graph(model, torch.zeros(2, 4))
    rows = model.fc.weight.detach().norm(dim=1, keepdim=True)
    torch.testing.assert_close(graph.blocks[1].values[0], rows.expand(2, 4))


def test_a_gate_beside_the_path_adds_nothing() -> None:
    class Gate(nn.Module):
        """Divides by a norm over all channels: through it every channel reaches every other."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.second(x / x.norm(dim=-1, keepdim=True))

    model = Gate()
    graph = nd.rolled_graph(model, torch.ones(2, 3))
    torch.testing.assert_close(graph.blocks[1].values[0], model.second.weight.detach().abs())


def test_a_chain_by_name_needs_no_forward_pass() -> None:
    graph = nd.rolled_graph(nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 2)), layers=["0"])
    assert graph.layer_sizes == (4, 4)
    attentive = Attentive()
    graph = nd.rolled_graph(attentive, layers=["before", "fc"])
    assert graph.layer_sizes == (4, 4, 2) and "inner.out_proj" in graph.left_out
    with pytest.raises(TracingError, match=r"'nonsense'.*before"):
        nd.rolled_graph(attentive, layers=["nonsense"])


def test_named_layers_equal_the_traced_chain() -> None:
    model = nd.models.alexnet()
    traced = nd.rolled_graph(model)
    named = nd.rolled_graph(model, layers=traced.layer_names[1:])
    assert torch.equal(traced.edge_weight, named.edge_weight)


# -- the networks of the corpora -----------------------------------------------------------------------------

DIGESTS: list[dict[str, Any]] = json.loads((ROOT / "tests" / "support" / "chain_digests.json").read_text())


def build(network: str, options: dict[str, Any]) -> nn.Module:
    if network == "zoo_network":
        return zoo_network(**options)
    if network == "resnet50":
        pytest.importorskip("torchvision")
    model: nn.Module = getattr(nd.models, network)(**options)
    return model


@pytest.mark.parametrize("case", DIGESTS, ids=lambda case: f"{case['network']}-{case['digest'][:6]}")
def test_a_corpus_network_has_the_chain_that_was_recorded(case: dict[str, Any]) -> None:
    """Same layers, sizes, edges and weights, in the same order, bit for bit.

    The digests were made when corpora were recorded, by a tracer with rules of its own. Weights are small
    whole numbers: sums of their squares are exact, and so the same on all machines.
    """
    model = build(case["network"], case["options"])
    with torch.no_grad():
        for parameter in model.parameters():
            numbers = torch.arange(parameter.numel()) * 7919 % 17 - 8
            parameter.copy_(numbers.view(parameter.shape))
    images = torch.zeros(2, case["options"].get("in_channels", 3), case["size"], case["size"])
    graph = nd.rolled_graph(model, images)
    digest = hashlib.sha256(repr((graph.layer_names, graph.layer_sizes)).encode())
    for tensor in (graph.edge_index(), graph.edge_weight):
        digest.update(tensor.numpy().tobytes())
    assert graph.num_edges == case["edges"]
    assert digest.hexdigest().startswith(case["digest"])


CORPORA = [
    *(ROOT / "pretrained_predictors").glob("*.parquet"),
    *(ROOT / "corpora").glob("*.parquet"),
]


@pytest.mark.needs("pyarrow")
@pytest.mark.parametrize("file", CORPORA, ids=lambda file: file.stem)
def test_first_snapshots_of_a_corpus_are_read_again(file: Path) -> None:
    """A run's network, built again from its seed, has the signature that was recorded before training."""
    records = load_corpus(file, raw=False)
    for record in records[:: max(1, len(records) // (40 if file.stem == "zoo" else 3))]:
        config, recorded = record.config, record.snapshots[0]
        options = config["network_options"]
        torch.manual_seed(config["seed"])
        model = build(config["network"], options)
        scale_weights(model, config.get("init_scale", 1.0))
        size = options.get("image_size") or config["size"] or 32
        images = torch.zeros(2, options.get("in_channels", 3), size, size)
        found = nd.SnapshotTaker(nd.rolled_graph(model, images)).take(0.0)
        # Bit for bit where torch's kernels are those of the recording machine.
        assert found.statistics == pytest.approx(recorded.statistics, rel=1e-4, abs=1e-6)
        wanted = (recorded.num_nodes, recorded.num_edges, recorded.depth)
        assert (found.num_nodes, found.num_edges, found.depth) == wanted
