"""Aggregators and layer statistics against scipy and torch-scatter."""

import numpy as np
import pytest
import scipy.stats
import torch

import lightning_nndyn as nd
from lightning_nndyn.graph import statistics
from lightning_nndyn.graph.statistics import LAYER_STATISTICS, segment_sum, summarize_layers

SAMPLES = {
    "normal": torch.randn(1001, generator=torch.Generator().manual_seed(0)).double(),
    "even": torch.arange(10).double() ** 2,
    "skewed": torch.rand(500, generator=torch.Generator().manual_seed(1)).double() ** 9,
    "huge": 1e18 * torch.rand(300, generator=torch.Generator().manual_seed(2)).double(),
    "tiny": 1e-18 * torch.rand(300, generator=torch.Generator().manual_seed(3)).double(),
    "two": torch.tensor([1.0, 4.0]).double(),
    "constant": torch.full((9,), 0.1).double(),
    "single": torch.tensor([3.0]).double(),
}


@pytest.mark.filterwarnings("ignore:Precision loss occurred")
@pytest.mark.parametrize("name", SAMPLES)
def test_aggregators_equal_scipys(name: str) -> None:
    values = SAMPLES[name]
    array = values.numpy()
    expected = [
        np.median(array), array.mean(), array.std(), scipy.stats.skew(array), scipy.stats.kurtosis(array)
    ]  # fmt: skip
    np.testing.assert_allclose(nd.summarize(values), expected, rtol=1e-9, atol=1e-9 * abs(array).max())


def test_summarize_refuses_nothing_to_summarise() -> None:
    with pytest.raises(ValueError, match="empty"):
        nd.summarize(torch.empty(0))


def test_layer_statistics_equal_scipys_layer_by_layer() -> None:
    sizes = (3, 7, 1, 20)
    values = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(0)).double()
    table = summarize_layers(values, sizes)
    assert table.shape == (4, len(LAYER_STATISTICS))
    for row, part in zip(table, values.split(sizes), strict=True):
        array = part.numpy()
        shape = [scipy.stats.skew(array), scipy.stats.kurtosis(array)] if len(array) > 1 else [0, 0]
        quantiles = np.quantile(array, statistics.QUANTILES)
        np.testing.assert_allclose(row, [array.mean(), array.std(), *shape, *quantiles], atol=1e-12)


def test_torch_scatter_gives_the_same_sums() -> None:
    torch_scatter = pytest.importorskip("torch_scatter")
    values, sizes = torch.randn(60).double(), torch.tensor([10, 1, 49])
    bounds = torch.tensor([0, 10, 11, 60])
    native = torch.segment_reduce(values, "sum", lengths=sizes)
    torch.testing.assert_close(torch_scatter.segment_csr(values, bounds, reduce="sum"), native)
    torch.testing.assert_close(segment_sum(values, sizes), native)
