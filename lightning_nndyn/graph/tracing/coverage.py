"""The reasons why layers are not in a graph.

Of a data-flow graph these are complete: every module with parameters is in it or named here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from torch import Tensor, nn

from lightning_nndyn.graph.tracing.compiled_modules import named_modules
from lightning_nndyn.graph.tracing.custom_layers import custom_layer
from lightning_nndyn.graph.tracing.layer_kinds import is_plain_layer
from lightning_nndyn.graph.tracing.parameters import own_parameters

NEVER_CALLED = "never called in the traced forward pass"
PER_CHANNEL = "one factor or summand for each channel: it joins none"
NOT_OBSERVED = (
    "in no product that was seen: a learned token, table or factor, or a fused or quantised layer, which "
    "register_layer describes"
)


def reasons_without_call(
    model: nn.Module, called: Collection[str], refused: Mapping[str, str]
) -> dict[str, str]:
    """Names the layers that a chain cannot contain, with the reason.

    Args:
        model: the module that was traced.
        called: names of the layers that were called.
        refused: weights left out on purpose, with the reason.
    """
    layers = [name for name, m in named_modules(model) if is_plain_layer(m) or custom_layer(m) is not None]
    reasons = {**dict.fromkeys(layers, NEVER_CALLED), **refused}
    # A parametrisation's own parameters are no layers: the weight is computed from them.
    return {
        name: reason
        for name, reason in reasons.items()
        if name not in called and ".parametrizations." not in f".{name}"
    }


def reasons_left_out(
    model: nn.Module,
    kept: Collection[str],
    node_layers: Collection[str],
    refused: Mapping[str, str],
    entered: Collection[str],
) -> dict[str, str]:
    """Names all that is left out of a graph, with the reason.

    Args:
        model: the module that was traced.
        kept: names of the modules whose weights are in the graph.
        node_layers: names of the graph's node layers.
        refused: layers left out on purpose, with the reason.
        entered: names of the modules whose forward was called.
    """
    inner = tuple(f"{name}.parametrizations." for name in kept)
    found = {
        name: reason
        for name, reason in refused.items()
        if name not in node_layers and not name.startswith(inner)
    }
    named = {refusal.rpartition(".")[0] for refusal in found} | set(found)
    used = {id(p) for name in kept for p in own_parameters(model.get_submodule(name))}
    for name, module in named_modules(model):
        own = list(module.parameters(recurse=False))
        is_used = name in kept or (own and all(id(p) in used for p in own))  # the latter: tied, parametrised
        if not is_used and name not in named:
            found.update(_of_module(name, module, name in entered))
    return found


def _of_module(name: str, module: nn.Module, entered: bool) -> Iterator[tuple[str, str]]:
    own = dict(module.named_parameters(recurse=False))
    if not own:
        # Asked of the class: on the module, a weight that is computed could leave traces.
        weight = getattr(type(module), "weight", None)
        if callable(weight) and not isinstance(weight, nn.Module):  # torch's quantised layers
            yield name, NOT_OBSERVED
        return
    if any(True for _ in module.children()) or not name:
        for attribute, parameter in own.items():
            reason = NOT_OBSERVED if _is_matrix(parameter) else PER_CHANNEL
            yield f"{name}.{attribute}" if name else attribute, reason
    elif not any(map(_is_matrix, own.values())) or "Norm" in type(module).__name__:
        yield name, PER_CHANNEL
    elif not entered:
        yield name, NEVER_CALLED
    else:
        yield name, NOT_OBSERVED


def _is_matrix(parameter: Tensor) -> bool:
    return sum(size > 1 for size in parameter.shape) > 1
