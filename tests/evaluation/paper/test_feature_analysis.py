"""Importance and curves of the statistics."""

import numpy as np
import pytest
from paper_material import statistics, values, with_statistics

from lightning_nndyn.evaluation import RunDataset
from lightning_nndyn.evaluation.paper.feature_analysis import ANALYSED, CURVES, curves, importance
from lightning_nndyn.signature.snapshot import STATISTICS

pytestmark = pytest.mark.needs("pyarrow")


@pytest.mark.parametrize("name", ANALYSED)
def test_the_one_statistic_that_tells_is_the_important_one(study: RunDataset, name: str) -> None:
    random = np.random.default_rng(0)
    mean, constant = STATISTICS.index("degree_mean"), STATISTICS.index("degree_kurtosis")

    def made(place: int, epoch: float) -> np.ndarray:
        row = random.normal(size=10)
        row[mean], row[constant] = 10.0 * study.low[place], 3.0
        return row

    rows = list(importance(with_statistics(study, made), [ANALYSED[name]], seed=0))
    assert {row.t for row in rows} == {1.0, 5.0, 15.0} and len(rows) == 30
    lost = {row.metric: row.value for row in rows if row.t == 1}
    assert lost["importance of degree_mean"] > 0.1
    assert lost["importance of degree_mean"] == max(lost.values())
    assert lost["importance of degree_kurtosis"] == 0


def test_curves_are_means_and_medians_of_high_and_low_runs(study: RunDataset) -> None:
    found = values(curves(study, list(CURVES), times=[5.0], seed=0))
    at = np.array([statistics(record, 5.0) for record in study.records])
    for place, name in enumerate(STATISTICS):
        high, low = at[~study.low, place], at[study.low, place]
        assert found["all", "mean-of-high", 5.0, name] == pytest.approx(high.mean(), abs=1e-5)
        assert found["all", "median-of-low", 5.0, name] == pytest.approx(np.median(low), abs=1e-5)
    assert len(found) == 4 * 2 * 10  # before training, too
