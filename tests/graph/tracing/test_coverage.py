"""What is not in a graph is named, with the reason."""

import pytest
import torch
import zoo_custom as custom
from layer_edges import joints, traced
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.graph.tracing.coverage import NEVER_CALLED, NOT_OBSERVED, PER_CHANNEL


def test_what_lies_in_a_module_whose_own_weight_is_used_is_named_too() -> None:
    """As in CLIP, whose projections are parameters of modules that hold all else."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.fc, self.unused = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc(self.norm(x))

    class Clip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block, self.norm = nn.Linear(5, 8), Block(), nn.LayerNorm(8)
            self.projection = nn.Parameter(torch.randn(8, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.block(self.stem(x))) @ self.projection

    graph = nd.rolled_graph(Clip(), torch.randn(3, 5), topology="dataflow")
    assert graph.layer_names == ("input", "stem", "block.fc", "projection")
    assert graph.left_out == {"block.norm": PER_CHANNEL, "norm": PER_CHANNEL, "block.unused": NEVER_CALLED}


def test_scripted_code_is_passed_through() -> None:
    inner = nn.Sequential(nn.Linear(4, 5), nn.ReLU())
    model = nn.Sequential(nn.Linear(3, 4), torch.jit.trace(inner, torch.randn(2, 4)), nn.Linear(5, 2))
    graph = traced(model, torch.randn(2, 3))
    assert joints(graph) == {("input", "0"), ("0", "2")}
    assert any(name.startswith("1.0") for name in graph.left_out)


def test_what_has_no_meaning_is_named_and_passed_through() -> None:
    graph = traced(custom.Bilinear(), torch.randn(2, 3))
    assert joints(graph) == {("input", "a"), ("input", "b"), ("a", "out"), ("b", "out")}
    assert "bilinear" in graph.left_out["join"]
    graph = traced(custom.Stacked(at_once=True), torch.randn(2, 4))
    assert "bmm" in graph.left_out["experts"] and ("stem", "out") in joints(graph)


def test_layers_without_gradients_and_unused_layers() -> None:
    graph = traced(custom.NoGrad(), torch.randn(2, 3, 5, 5))
    assert joints(graph) == {("input", "body"), ("body", "head")}
    graph = traced(custom.Unused(), torch.randn(2, 4))
    assert joints(graph) == {("input", "a"), ("a", "b"), ("a", "wasted")}
    assert graph.left_out == {"never": NEVER_CALLED}


def test_quantised_layers_are_left_out_by_name() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 2))
    engine = torch.backends.quantized.supported_engines[-1]
    if engine == "none":
        pytest.skip("torch was built without a quantised engine")
    torch.backends.quantized.engine = engine
    quantised = torch.ao.nn.quantized.dynamic.Linear.from_float
    model[2].qconfig = torch.ao.quantization.default_dynamic_qconfig
    model[2] = quantised(model[2])
    graph = traced(model, torch.randn(2, 4))
    assert graph.layer_names == ("input", "0", "3") and graph.left_out == {"2": NOT_OBSERVED}
    assert ("0", "3") in joints(graph)
