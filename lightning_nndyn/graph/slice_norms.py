"""Edge weights: the L2 norm of each kernel slice (section 3.1), computed with little scratch memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# Entries of one piece. On a CPU 2 MiB in float32 stay in a core's share of the cache. A GPU has more cores
# and pays for each kernel launch, so its pieces are larger.
_CPU_PIECE = 1 << 19
_GPU_PIECE = 1 << 22
# Up to this length a matrix-vector product is as exact as torch's pairwise sum, and faster.
_MAX_MATVEC_LENGTH = 128

Scratch = dict[str, Tensor]
"""Scratch memory by purpose. Layers that are read one after the other share it."""


def slice_norms(slices: Tensor, out: Tensor, scratch: Scratch | None = None) -> Tensor:
    """L2 norms over the last axis, written into ``out``.

    Args:
        slices: [rows, columns, positions], any strides and real dtype.
        out: [rows, columns], the result.
        scratch: memory that is reused, so that the next call allocates nothing; None to allocate it.

    Returns:
        ``out``.
    """
    rows, columns, positions = slices.shape
    if positions == 1:
        same = slices.dtype == out.dtype
        return torch.abs(slices[:, :, 0], out=out) if same else out.copy_(slices[:, :, 0]).abs_()
    if out.device.type != "cpu":
        return torch.linalg.vector_norm(slices, dim=2, out=out, dtype=out.dtype)
    # On a CPU torch reduces a short inner axis without vector instructions. Squares in a cached buffer,
    # summed by one matrix-vector product, take a third of the time (benchmarks/signature.py).
    scratch = {} if scratch is None else scratch
    column_step = max(1, min(columns, _CPU_PIECE // positions))
    row_step = max(1, _CPU_PIECE // (columns * positions))
    for row in range(0, rows, row_step):
        for column in range(0, columns, column_step):
            piece = slice(row, row + row_step), slice(column, column + column_step)
            _sum_squares(slices[piece], out[piece], scratch)
    return out.sqrt_()


def _sum_squares(slices: Tensor, out: Tensor, scratch: Scratch) -> None:
    """Sums of squares over the last axis of [rows, columns, positions]; one row unless all columns."""
    positions = slices.shape[2]
    squares = scratch_tensor(scratch, "squares", slices.shape, out)
    if slices.dtype == out.dtype:
        torch.mul(slices, slices, out=squares)
    else:  # convert first: half precision would round the squares
        squares.copy_(slices).square_()
    squares, sums = squares.view(-1, positions), out.view(-1)
    if positions > _MAX_MATVEC_LENGTH:
        torch.sum(squares, 1, out=sums)
        return
    if "ones" not in scratch:
        scratch["ones"] = out.new_ones(_MAX_MATVEC_LENGTH)
    sums.addmv_(squares, scratch["ones"][:positions], beta=0)  # in torch 2.5 torch.mv(out=) allocates


def pieces(groups: int, rows: int, width: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Cuts [groups, rows, width] entries into pieces: whole groups, or some rows of one group.

    Args:
        groups: number of groups.
        rows: rows of each group.
        width: entries of each row.
        device: where the pieces are worked on.

    Yields:
        The groups and the rows of each piece.
    """
    # Several scratch tensors are needed at a time, so a piece gets half.
    limit = _CPU_PIECE // 2 if device.type == "cpu" else _GPU_PIECE
    row_step = max(1, min(rows, limit // width))
    group_step = max(1, limit // (row_step * width)) if row_step == rows else 1
    for group in range(0, groups, group_step):
        for row in range(0, rows, row_step):
            yield slice(group, group + group_step), slice(row, row + row_step)


def scratch_tensor(scratch: Scratch, purpose: str, shape: Sequence[int], like: Tensor) -> Tensor:
    """A tensor of this shape in scratch memory, with ``like``'s dtype and device and undefined content."""
    numel = math.prod(shape)
    if purpose not in scratch or scratch[purpose].numel() < numel:
        scratch.pop(purpose, None)  # free the old memory before allocating the new
        scratch[purpose] = like.new_empty(numel)
    return scratch[purpose][:numel].view(tuple(shape))
