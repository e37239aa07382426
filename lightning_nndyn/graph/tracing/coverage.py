"""Why a module's parameters are not in a rolled graph: every module that has some is in it, or named here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from lightning_nndyn.graph.tracing.compiled_modules import named_modules

NEVER_CALLED = "never called in the traced forward pass"
FACTOR = "one factor or summand for each channel: it joins none"
UNSEEN = (
    "in no product that was seen: a learned token, table or factor, or a fused or quantised layer, which "
    "register_layer describes"
)


def reasons(
    model: nn.Module,
    kept: Collection[str],
    read: Collection[str],
    refused: Mapping[str, str],
    entered: Collection[str],
) -> dict[str, str]:
    """Names all that is left out of a graph.

    Args:
        model: the module that was traced.
        kept: names of the modules whose weights are in the graph.
        read: names of the graph's node layers.
        refused: layers left out on purpose, with the reason.
        entered: names of the modules whose forward was called.
    """
    inner = tuple(f"{name}.parametrizations." for name in kept)
    found = {name: why for name, why in refused.items() if name not in read and not name.startswith(inner)}
    named = {refusal.rpartition(".")[0] for refusal in found} | set(found)
    used = {id(p) for name in kept for p in _own(model.get_submodule(name))}
    for name, module in named_modules(model):
        own = list(module.parameters(recurse=False))
        is_used = name in kept or (own and all(id(p) in used for p in own))  # the latter: tied, parametrised
        if not is_used and name not in named:
            found.update(_of_module(name, module, name in entered))
    return found


def _own(module: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters that are a module's, but not of modules in it; those that its own are computed from are."""
    yield from module.parameters(recurse=False)
    if is_parametrized(module):
        yield from module.parametrizations.parameters()  # type: ignore[union-attr]


def _of_module(name: str, module: nn.Module, entered: bool) -> Iterator[tuple[str, str]]:
    own = dict(module.named_parameters(recurse=False))
    if not own:
        weight = getattr(
            type(module), "weight", None
        )  # not the module's: one that is computed may leave traces
        if callable(weight) and not isinstance(weight, nn.Module):  # torch's quantised layers
            yield name, UNSEEN
        return
    if any(True for _ in module.children()) or not name:
        for attribute, parameter in own.items():
            yield f"{name}.{attribute}" if name else attribute, UNSEEN if _is_matrix(parameter) else FACTOR
    elif not any(map(_is_matrix, own.values())) or "Norm" in type(module).__name__:
        yield name, FACTOR
    elif not entered:
        yield name, NEVER_CALLED
    else:
        yield name, UNSEEN


def _is_matrix(parameter: Tensor) -> bool:
    return sum(size > 1 for size in parameter.shape) > 1
