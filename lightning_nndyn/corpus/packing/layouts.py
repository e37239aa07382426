"""The order in which a tensor's numbers lie in memory, and tensors laid out like another."""

from collections.abc import Sequence

from torch import Tensor


def memory_order(tensor: Tensor) -> tuple[int, ...]:
    """The dimensions from the outermost to the innermost in memory: (0, 2, 3, 1) for channels last."""
    strides = tensor.stride()
    return tuple(sorted(range(tensor.dim()), key=lambda dimension: -strides[dimension]))


def laid_out(numbers: Tensor, shape: Sequence[int], order: Sequence[int]) -> Tensor:
    """A view of `numbers` [..., n] as [..., *shape] whose trailing dimensions lie in memory in that order."""
    lead = tuple(numbers.shape[:-1])
    stored = numbers.view(*lead, *(shape[dimension] for dimension in order))
    back = sorted(range(len(order)), key=lambda place: order[place])
    return stored.permute(*range(len(lead)), *(len(lead) + place for place in back))
