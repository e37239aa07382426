"""Which layer feeds which by the autograd graph: the oracle beside the tracer, which shares no code with it.

A product node of the graph is one with a weight among its inputs. From its other inputs all ways back end at
the next product nodes: those feed it. The graph knows tensors, not channels: where a tensor is cut up again,
it joins more than is joined (see `channel_walk`).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

PRODUCTS = (
    "AddmmBackward",
    "MmBackward",
    "BmmBackward",
    "BaddbmmBackward",
    "ConvolutionBackward",
    "EmbeddingBackward",
    "EmbeddingBagBackward",
    "MkldnnRnnLayerBackward",
)
VIEWS = (
    "TBackward",
    "Transpose",
    "Permute",
    "View",
    "Reshape",
    "Split",
    "Select",
    "Slice",
    "Unbind",
    "Unsafe",
    "Expand",
    "Unsqueeze",
)
LEAF = "torch::autograd::AccumulateGrad"

Edges = set[tuple[str, str]]


@dataclass
class Walk:
    """What the autograd graph tells.

    Attributes:
        edges: pairs of weights' names, or ``"input"`` and a weight's name.
        products: how many products there are with each weight.
    """

    edges: Edges = field(default_factory=set)
    products: Counter[str] = field(default_factory=Counter)


def float_leaves(tree: Any) -> list[Tensor]:
    """All floating tensors in nested lists, tuples, dicts and model outputs."""
    if isinstance(tree, Tensor):
        return [tree] if tree.is_floating_point() else []
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    return [leaf for part in tree for leaf in float_leaves(part)] if isinstance(tree, (list, tuple)) else []


class AutogradWalk:
    """Walks back from a model's outputs, computed with gradients on.

    Args:
        model: the model; weights are its parameters with several axes that stand in a product.
        inputs: floating tensors it was given, with ``requires_grad``.
        no_layers: names of weights whose products are passed through like any other operation.
    """

    def __init__(
        self, model: nn.Module, inputs: Iterable[Tensor] = (), no_layers: Collection[str] = ()
    ) -> None:
        self._names = {p: name for name, p in model.named_parameters() if name not in no_layers}
        self._inputs = set(inputs)
        self._seen_weights: dict[Any, str | None] = {}

    def walk(self, outputs: Any) -> Walk:
        """All that leads to the outputs."""
        found = Walk()
        waiting = [tensor.grad_fn for tensor in float_leaves(outputs) if tensor.grad_fn is not None]
        seen = set()
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            name, rest = self._product(node)
            if name is not None:
                found.products[name] += 1
                found.edges |= {(source, name) for source in self._sources(rest)}
            waiting += _parents(node)
        return found

    def _product(self, node: Any) -> tuple[str | None, list[Any]]:
        """The weight that a node multiplies by, and what else goes into it."""
        if not node.name().startswith(PRODUCTS):
            return None, []
        parents = _parents(node)
        for look in (self._shown, self._computed):
            for parent in parents:
                name = look(parent)
                if name is not None:
                    return name, [other for other in parents if other is not parent]
        return None, []

    def _shown(self, node: Any) -> str | None:
        """The name of the weight of which a node shows a view or a part."""
        if node not in self._seen_weights:
            self._seen_weights[node] = self._look(node)
        return self._seen_weights[node]

    def _look(self, node: Any) -> str | None:
        if node.name() == LEAF:
            parameter = node.variable
            return self._names[parameter] if parameter in self._names and parameter.dim() > 1 else None
        parents = _parents(node)
        return self._shown(parents[0]) if len(parents) == 1 and node.name().startswith(VIEWS) else None

    def _computed(self, node: Any) -> str | None:
        """The name of the one weight, besides factors, from which a node is computed."""
        found: set[str] = set()
        waiting = [node]
        while waiting:
            node = waiting.pop()
            if node.name() == LEAF:
                if node.variable not in self._names:
                    return None
                if sum(size > 1 for size in node.variable.shape) > 1:
                    found.add(self._names[node.variable])
            elif node.name().startswith(PRODUCTS):
                return None
            waiting += _parents(node)
        return found.pop() if len(found) == 1 else None

    def _sources(self, nodes: list[Any]) -> set[str]:
        """The products and inputs that nodes come from."""
        found, waiting, seen = set(), list(nodes), set()
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            name, _ = self._product(node)
            if name is not None:
                found.add(name)
            elif node.name() == LEAF and node.variable in self._inputs:
                found.add("input")
            else:
                waiting += _parents(node)
        return found


def _parents(node: Any) -> list[Any]:
    return [parent for parent, _ in node.next_functions if parent is not None]
