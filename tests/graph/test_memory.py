"""Peak extra memory: at most 5 % of the weights, besides the graph and a few MiB that grow with no model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import Digits, trainer, watcher
from decoders import DecoderLayer, Sizes
from memory_peaks import graph_bytes, measured, solver_bytes, weight_bytes
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.graph.tracing.tracer import LayerTracer, Topology

MIB = 1 << 20
ALLOWANCE = 4 * MIB
"""Scratch memory and sums over nodes: the same whatever the model's size."""


def alexnet_like() -> nn.Module:
    """Most weights in the linear layer behind the flatten."""
    features = (nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 256, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(6))
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(9216, 2048), nn.ReLU(), nn.Linear(2048, 10))


class Wide(nn.Module):
    """Residual blocks of 512 channels."""

    def __init__(self, depth: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 512, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(512, 512, 3, padding=1) for _ in range(depth))
        self.last = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for up, down in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            x = x + down(up(x).relu())
        return self.last(x.mean((2, 3)))


def transformer() -> nn.Module:
    """One pre-norm block with attention and a gated linear unit."""
    return DecoderLayer(Sizes(width=1024, heads=16, depth=1, vocabulary=1, hidden=4096, gated=True))


class Joined(nn.Module):
    """A layer that reads a concatenation, in another order than its sources were made in."""

    def __init__(self, layer: Callable[..., nn.Module], *kernel: int, out: int) -> None:
        super().__init__()
        self.left, self.right = layer(8, 300, *kernel), layer(8, 100, *kernel)
        self.joined = layer(400, out, *kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(torch.cat((self.right(x), self.left(x)), 1))


class Turned(nn.Module):
    """A weight whose input axis comes first, behind a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3)
        self.weight = nn.Parameter(torch.randn(64 * 36, 7300))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(1) @ self.weight


@dataclass(frozen=True)
class Case:
    """A network whose weights are large next to the allowance."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    topology: Topology = "chain"
    dtype: torch.dtype = torch.float32
    layout: torch.memory_format = torch.contiguous_format


def sequence(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(layer() for layer in layers))


MLP = sequence(
    lambda: nn.Linear(64, 4096), nn.ReLU, lambda: nn.Linear(4096, 4096), lambda: nn.Linear(4096, 10)
)
WIDE_MLP = sequence(lambda: nn.Linear(64, 8192), nn.ReLU, lambda: nn.Linear(8192, 4200))
TRANSPOSED = sequence(lambda: nn.Conv2d(3, 2048, 1), lambda: nn.ConvTranspose2d(2048, 4096, 3, groups=4))
GROUPED = sequence(
    lambda: nn.Conv2d(3, 2048, 1), lambda: nn.ChannelShuffle(4), lambda: nn.Conv2d(2048, 4096, 3, groups=4)
)
DEPTHWISE = sequence(lambda: nn.Conv2d(3, 2048, 1), lambda: nn.Conv2d(2048, 2048, 91, groups=2048))
IMAGE = (1, 3, 8, 8)

CASES = {
    "one large layer": Case(MLP, (2, 64)),
    "one large layer, data flow": Case(MLP, (2, 64), "dataflow"),
    "AlexNet-like": Case(alexnet_like, (1, 3, 16, 16)),
    "AlexNet-like, channels last": Case(alexnet_like, (1, 3, 16, 16), layout=torch.channels_last),
    "AlexNet-like, float64": Case(alexnet_like, (1, 3, 16, 16), dtype=torch.float64),
    "wide residual": Case(Wide, IMAGE),
    "wide residual, data flow": Case(Wide, IMAGE, "dataflow"),
    "transformer": Case(transformer, (1, 8, 1024), "dataflow"),
    "bfloat16": Case(WIDE_MLP, (2, 64), "dataflow", torch.bfloat16),
    "wide residual, bfloat16": Case(lambda: Wide(16), (1, 3, 2, 2), dtype=torch.bfloat16),
    "transposed in groups": Case(TRANSPOSED, (1, 3, 2, 2)),
    "turned": Case(Turned, IMAGE),
    "grouped": Case(GROUPED, (1, 3, 4, 4), "dataflow"),
    "depthwise": Case(DEPTHWISE, (1, 3, 91, 91)),
    "joined": Case(lambda: Joined(nn.Linear, out=42_000), (2, 8)),
    "joined, data flow": Case(lambda: Joined(nn.Linear, out=42_000), (2, 8), "dataflow"),
    "joined convolutions": Case(lambda: Joined(nn.Conv2d, 3, out=4700), (1, 8, 5, 5)),
    "joined convolutions, data flow": Case(lambda: Joined(nn.Conv2d, 3, out=4700), (1, 8, 5, 5), "dataflow"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_graph_and_its_readings_take_little_more_than_the_graph(name: str) -> None:
    case = CASES[name]
    model = case.build().to(case.dtype).to(memory_format=case.layout).eval()
    x = torch.randn(case.shape, dtype=case.dtype)
    weights = weight_bytes(model)
    bound = weights // 20 + ALLOWANCE
    assert weights > 64 * MIB, f"{weights / MIB:.0f} MiB hide nothing"

    with torch.no_grad():
        model(x)
        plain = measured(lambda: model(x))
        tracer = LayerTracer(model, topology=case.topology)
        watched = measured(lambda: watch(tracer, x))
    assert watched.peak - plain.peak < bound, "while the forward pass is watched"

    built = measured(tracer.graph)
    graph: nd.RolledGraph = built.result
    assert built.peak - graph_bytes(graph) < bound, "while the graph is built"
    assert built.left - graph_bytes(graph) < bound

    taker = nd.SnapshotTaker(graph, per_layer=True)
    kept = watched.left + built.left - graph_bytes(graph)
    for epoch in (0.0, 1.0):
        read = measured(lambda epoch=epoch: taker.read(epoch))
        assert kept + read.peak - solver_bytes(graph) < bound, f"while the weights are read at {epoch}"
        kept += read.left
    assert read.left < 4096, "a second reading leaves nothing"


def watch(tracer: LayerTracer, x: Tensor) -> None:
    with tracer:
        tracer._model(x)


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_a_deep_network_keeps_no_scratch_memory_for_each_layer(topology: Topology) -> None:
    model = nd.models.resnet32().eval()
    graph = nd.rolled_graph(model, torch.zeros(1, 3, 32, 32), topology=topology)
    built = measured(lambda: nd.rolled_graph(model, torch.zeros(1, 3, 32, 32), topology=topology))
    largest = max(p.numel() * p.element_size() for p in model.parameters())
    assert built.left - graph_bytes(graph) < 2 * largest


class Large(Digits):
    """Digits with a hidden layer of 64 MiB."""

    def __init__(self) -> None:
        super().__init__(batch_size=32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = (nn.Linear(64, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 10))
            self.net = nn.Sequential(nn.Flatten(), *layers)


class Adaptive(Large):
    """Adam has more state than weights."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.net.parameters(), lr=1e-4)


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
@pytest.mark.parametrize("kind", [Large, Adaptive])
def test_training_with_the_callback_takes_little_more_than_the_graph(
    kind: type[L.LightningModule], topology: Topology
) -> None:
    def fit(*callbacks: Any) -> int:
        model = kind()
        return measured(lambda: trainer(*callbacks, max_epochs=2, limit_train_batches=3).fit(model)).peak

    callback = watcher(None, action="observe", topology=topology)
    extra = fit(callback) - fit()
    model = kind()
    graph = nd.rolled_graph(model.net, torch.zeros(2, 64), topology=topology)
    assert len(callback.history) > 2
    assert extra < graph_bytes(graph) + solver_bytes(graph) + weight_bytes(model) // 20 + ALLOWANCE
