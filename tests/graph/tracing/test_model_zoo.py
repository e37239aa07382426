"""A zoo of networks: the data flow that is traced, held against two oracles that share no code with it."""

import re
from typing import Any

import pytest
import torch
from autograd_walk import AutogradWalk, float_leaves
from channel_walk import channel_walk, is_layer
from paths import ROOT
from torch import nn
from zoo_models import ZOO, Entry

import lightning_nndyn as nd
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.tracing.coverage import PER_CHANNEL
from lightning_nndyn.graph.tracing.forward import call_model

pytestmark = pytest.mark.filterwarnings("ignore")

Pairs = set[tuple[str, str]]


def zoo_parameters() -> list[Any]:
    return [pytest.param(e, id=e.name, marks=pytest.mark.needs(e.needs)) for e in ZOO]


def traced(model: nn.Module, example: Any) -> RolledGraph:
    return nd.rolled_graph(model, example, topology="dataflow")


def module_of(model: nn.Module, name: str) -> str:
    """The module that a node layer or parameter belongs to; tied weights by their first name."""
    name = re.sub(r"#\d+$", "", name)
    if name.startswith("input"):
        return "input"
    parameters = dict(model.named_parameters(remove_duplicate=False))
    wanted = parameters.get(name, parameters.get(f"{name}.weight"))
    if wanted is not None:
        name = next(other for other, parameter in model.named_parameters() if parameter is wanted)
        inside = ".parametrizations" in name
        return name.partition(".parametrizations")[0] if inside else name.rpartition(".")[0]
    modules = dict(model.named_modules())
    return name if name in modules else name.rpartition(".")[0]


def layer_pairs(model: nn.Module, graph: RolledGraph) -> Pairs:
    """Which module feeds which by the graph's blocks; constants, which nobody makes, left aside."""
    names = [module_of(model, name) for name in graph.layer_names]
    constant = [name.startswith("constant") for name in graph.layer_names]
    pairs = {(names[b.source], names[b.target]) for b in graph.blocks if not constant[b.source]}
    return without_recurrence(model, pairs)


def without_recurrence(model: nn.Module, pairs: Pairs) -> Pairs:
    """Autograd shows each step of a recurrent layer, whose weights from itself to itself we leave out."""
    modules = dict(model.named_modules())
    return {(a, b) for a, b in pairs if not (a == b and isinstance(modules.get(a), nn.RNNBase))}


@pytest.mark.parametrize("entry", zoo_parameters())
def test_the_zoo(entry: Entry) -> None:
    model, example = entry.build()
    model = model.eval().requires_grad_()
    spread_factors(model)
    graph = traced(model, example)
    check_everything_is_somewhere(model, graph)
    check_left_out(model, graph, entry)
    surplus = check_against_autograd(model, graph, example)
    if entry.channels and only_plain_layers(model, graph):
        check_channel_by_channel(model, graph, example, entry.axis)
    else:
        assert surplus == entry.cut
    check_features(graph)


def only_plain_layers(model: nn.Module, graph: RolledGraph) -> bool:
    """Whether `channel_walk` knows every layer of the graph."""
    modules = dict(model.named_modules())
    names = {module_of(model, name) for name in graph.layer_names if not name.startswith("constant")}
    return all(is_layer(modules[name]) for name in names if name in modules)


def spread_factors(model: nn.Module) -> None:
    """Factors that begin at zero hide what they multiply."""
    with torch.no_grad():
        for parameter in model.parameters():
            if sum(size > 1 for size in parameter.shape) < 2:
                parameter.uniform_(0.1, 1)


def check_everything_is_somewhere(model: nn.Module, graph: RolledGraph) -> None:
    """Each module that has parameters is a layer of the graph, or named with a reason."""
    modules = dict(model.named_modules())
    in_graph = {module_of(model, name) for name in graph.layer_names} & set(modules)
    used = {id(p) for name in in_graph for p in modules[name].parameters()}
    named = {part for name in graph.left_out for part in (name, name.rpartition(".")[0])}
    for name, module in modules.items():
        own = list(module.parameters(recurse=False))
        assert all(id(p) in used for p in own) or name in named, name
    assert not any(name in graph.left_out for name in graph.layer_names)


def check_left_out(model: nn.Module, graph: RolledGraph, entry: Entry) -> None:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, reason in graph.left_out.items():
        if reason == PER_CHANNEL:
            own = [p for n, p in parameters.items() if n == name or n.rpartition(".")[0] == name]
            wide = [p for p in own if sum(size > 1 for size in p.shape) > 1]
            assert not wide or "norm" in name.lower() or "Norm" in type(model.get_submodule(name)).__name__
        else:
            assert name.endswith(entry.left_out), (name, reason)


def check_against_autograd(model: nn.Module, graph: RolledGraph, example: Any) -> Pairs:
    """Nothing is joined that autograd does not join; returns what autograd joins beyond that."""
    inputs = [x.requires_grad_() for x in float_leaves([example])]
    passed = [name for name, p in model.named_parameters() if name in graph.left_out]
    passed += [f"{name}.weight" for name in graph.left_out]
    with torch.enable_grad():
        walk = AutogradWalk(model, inputs, passed).walk(call_model(model, example))
    expected = without_recurrence(model, {(module_of(model, a), module_of(model, b)) for a, b in walk.edges})
    found = layer_pairs(model, graph)
    assert found <= expected, sorted(found - expected)
    return expected - found


def check_channel_by_channel(model: nn.Module, graph: RolledGraph, example: Any, axis: int) -> None:
    """Gradients of each layer's input with respect to single channels count the same nodes and edges."""
    found = channel_walk(
        model, lambda m: call_model(m, example), float_leaves([example]), axis, graph.left_out
    )
    expected = {(module_of(model, a), module_of(model, b)) for a, b in found.pairs if a != "constant"}
    assert layer_pairs(model, graph) == expected
    assert (graph.num_nodes, graph.num_edges) == (found.nodes, found.edges)


def check_features(graph: RolledGraph) -> None:
    degree = nd.weighted_degree(graph)
    assert degree.shape == (graph.num_nodes,)
    total = sum(float(block.values.double().sum()) for block in graph.blocks)
    assert float(degree.double().sum()) == pytest.approx(2 * total, rel=1e-4)


def test_the_page_on_models_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "reference" / "layers.md").read_text()
    names = {entry.name for entry in ZOO}
    assert (
        set(re.findall(r"`(?:graph/tracing/test_model_zoo\.py::test_the_zoo)?\[([\w-]+)\]`", page)) <= names
    )
    file = ""
    for found, test in re.findall(r"`([\w/]*test_\w+\.py)?::(test_\w+)", page):
        file = found or file
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(), (file, test)


def test_the_zoo_is_large_enough() -> None:
    count = lambda needs: sum(entry.needs == needs for entry in ZOO)  # noqa: E731
    assert (
        len(ZOO) >= 60 and count("timm") >= 20 and count("torchvision") >= 16 and count("transformers") >= 6
    )
