"""The five statistics that summarise a node feature (section 3.2, S3), over all nodes or layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

AGGREGATORS = ("median", "mean", "std", "skewness", "kurtosis")
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
LAYER_STATISTICS = ("mean", "std", "skewness", "kurtosis", *(f"q{round(100 * q)}" for q in QUANTILES))


def summarize(values: Tensor) -> Tensor:
    """Median, mean, standard deviation, skewness and kurtosis of the entries.

    Population moments and excess kurtosis, as by default in numpy and scipy.stats. The median of an even
    number of entries is the mean of the two in the middle. As in scipy, skewness and kurtosis of a constant
    are NaN.

    Args:
        values: any shape, at least one entry.

    Returns:
        Tensor[5], float64, on the device of ``values``.

    Raises:
        ValueError: if ``values`` is empty.
    """
    if values.numel() == 0:
        raise ValueError("summarize needs at least one value, got an empty tensor")
    flat = values.detach().reshape(-1).double()
    ordered = flat.sort().values
    n = flat.numel()
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    mean = flat.mean()
    moments = torch.stack([((flat - mean) ** k).mean() for k in (2, 3, 4)])
    return torch.cat((torch.stack((median, mean)), _standardized(mean, moments)))


def _standardized(mean: Tensor, moments: Tensor) -> Tensor:
    """Standard deviation, skewness, excess kurtosis [3, ...] from the mean and central moments [3, ...]."""
    second, third, fourth = moments
    # As in scipy: a standard deviation within rounding of the mean counts as 0.
    constant = second <= (torch.finfo(torch.float64).eps * mean) ** 2
    second_or_nan = second.masked_fill(constant, torch.nan)
    skewness = third / second_or_nan**1.5
    kurtosis = fourth / second_or_nan**2 - 3
    return torch.stack((second.sqrt(), skewness, kurtosis))


class Segments:
    """Consecutive segments of a vector, such as the nodes of each layer.

    To be kept from one reading to the next: the sizes come from the host, and a GPU waits for such a copy.

    Args:
        sizes: of the segments; they add up to the vector's length N.
        device: of the vector.

    Attributes:
        sizes: LongTensor[S].
        index: LongTensor[N], the segment of each entry.
    """

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        self.sizes = torch.tensor(sizes, device=device)
        self.index = segment_index(self.sizes, sum(sizes))
        self._first = self.sizes.cumsum(0) - self.sizes
        fractions = torch.tensor(QUANTILES, dtype=torch.float64, device=device)
        self._position = fractions * (self.sizes[:, None] - 1)

    def quantiles(self, values: Tensor) -> Tensor:
        """Linearly interpolated `QUANTILES` in each segment of a vector [N]: Tensor[S, len(QUANTILES)]."""
        by_value = torch.argsort(values)
        ordered = values[by_value[torch.argsort(self.index[by_value], stable=True)]]
        below, above = self._position.floor().long(), self._position.ceil().long()
        low, high = ordered[self._first[:, None] + below], ordered[self._first[:, None] + above]
        return low + (high - low) * (self._position - below)


def summarize_layers(values: Tensor, layers: Sequence[int] | Segments) -> Tensor:
    """Moments and quantiles of a node feature in each node layer.

    Args:
        values: Tensor[V], the nodes layer by layer.
        layers: nodes of each layer, whose sum is V.

    Returns:
        Tensor[layers, 11], float64: the columns of `LAYER_STATISTICS`. Unlike in `summarize`, skewness and
        kurtosis of a constant are 0.
    """
    flat = values.detach().double()
    segments = layers if isinstance(layers, Segments) else Segments(layers, flat.device)
    sizes = segments.sizes
    mean = segment_sum(flat, sizes) / sizes
    centred = flat - mean[segments.index]
    moments = torch.stack([segment_sum(centred**k, sizes) / sizes for k in (2, 3, 4)])
    higher = torch.nan_to_num(_standardized(mean, moments), nan=0.0)
    return torch.cat((mean[:, None], higher.T, segments.quantiles(flat)), dim=1)


def segment_index(sizes: Tensor, total: int) -> Tensor:
    """The segment of each entry, LongTensor[total], for consecutive segments of these sizes."""
    # Given the total, a GPU need not compute it and copy it to the host first.
    return torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes, output_size=total)


def segment_sum(values: Tensor, sizes: Tensor) -> Tensor:
    """Sums of consecutive segments of entries, with torch-scatter if it is installed.

    Args:
        values: Tensor[N] or Tensor[N, k].
        sizes: LongTensor[S], the length of each segment; their sum is N.

    Returns:
        Tensor[S] or Tensor[S, k].
    """
    segment_csr = _segment_csr()
    if segment_csr is None:
        return torch.segment_reduce(values, "sum", lengths=sizes, unsafe=True)
    bounds = torch.cat((sizes.new_zeros(1), sizes.cumsum(0)))
    result: Tensor = segment_csr(values, bounds, reduce="sum")
    return result


@cache
def _segment_csr() -> Callable[..., Tensor] | None:
    """torch-scatter's function or None. Cached, as a failing import takes longer than the sum itself."""
    try:
        from torch_scatter import segment_csr
    except ImportError:
        return None
    function: Callable[..., Tensor] = segment_csr
    return function
