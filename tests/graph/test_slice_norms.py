"""Norms of kernel slices against torch's, and the pieces they are computed in."""

import pytest
import torch

from lightning_nndyn.graph import slice_norms as module
from lightning_nndyn.graph.slice_norms import pieces, scratch_tensor, slice_norms


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(7, 5, 1), (7, 5, 9), (600, 300, 25), (3, 4, 300_000)])
def test_slice_norms_equal_vector_norm(dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    slices = torch.randn(shape).to(dtype)
    out = torch.empty(shape[:2], dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    slice_norms(slices, out)
    expected = torch.linalg.vector_norm(slices.double(), dim=2).to(out.dtype)
    torch.testing.assert_close(out, expected, rtol=5e-7, atol=0)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (7, 10, 64), (2, 3, 1000)])
def test_pieces_cover_every_entry_once(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CPU_PIECE", 256)
    groups, rows, width = shape
    seen, sizes = torch.zeros(shape), []
    for group, row in pieces(groups, rows, width, seen.device):
        seen[group, row] += 1
        sizes.append(seen[group, row].numel())
    assert (seen == 1).all()
    assert max(sizes) <= max(128, width)  # half of the limit, or one row


def test_scratch_memory_is_reused_and_grows() -> None:
    scratch: dict[str, torch.Tensor] = {}
    like = torch.empty(0, dtype=torch.float64)
    large = scratch_tensor(scratch, "norms", (4, 5), like)
    small = scratch_tensor(scratch, "norms", (2, 3), like)
    assert small.shape == (2, 3) and small.dtype == torch.float64
    assert small.data_ptr() == large.data_ptr()
    assert scratch_tensor(scratch, "norms", (6, 7), like).shape == (6, 7)
