"""One torch operation of a forward pass, and the tensors in nested arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Operation:
    """A call ``out = func(*args, **kwargs)`` that has returned.

    Attributes:
        func: the function.
        args: its positional arguments.
        kwargs: its keyword arguments.
        out: what it returned.
        name: the function's name.
    """

    func: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    out: Any
    name: str

    @cached_property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return [*tensors_in(self.args), *tensors_in(self.kwargs)]

    @cached_property
    def outputs(self) -> list[Tensor]:
        """All tensors that were returned."""
        return list(tensors_in(self.out))

    def argument(self, position: int, *names: str, default: Any = None) -> Any:
        """An argument, given by keyword (``names`` are aliases) or by position."""
        for name in names:
            if name in self.kwargs:
                return self.kwargs[name]
        return self.args[position] if len(self.args) > position else default

    def axis(self, tensor: Tensor, position: int, default: int) -> int:
        """The argument ``dim`` or ``axis``, counted from the front of ``tensor``."""
        return int(self.argument(position, "dim", "axis", default=default)) % tensor.dim()


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and mappings."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from tensors_in(value)
    # The check against the abstract class Mapping is slow: most arguments are plain values.
    elif not (tree is None or isinstance(tree, (int, float, str))) and isinstance(tree, Mapping):
        for value in tree.values():
            yield from tensors_in(value)


def map_tensors(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy of nested lists, tuples and mappings with every tensor replaced by ``change(tensor)``."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: map_tensors(value, change) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_tensors(value, change) for value in tree)
    return tree
