"""Features of the learned methods."""

from dataclasses import replace

import numpy as np
import pytest

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.evaluation import RunDataset
from lightning_nndyn.evaluation.benchmark.method_features import FEATURES, curves, losses


@pytest.mark.parametrize("method", FEATURES)
@pytest.mark.parametrize("time", [1 / 16, 1.0, 2.0])
def test_inputs_read_no_later_than_they_may(records: list[RunRecord], method: str, time: float) -> None:
    """A record cut off at the time, as a live run is, gives the same row."""
    record = records[-4]
    until = sum(snapshot.epoch <= time for snapshot in record.snapshots)
    cut = replace(
        record,
        snapshots=record.snapshots[:until],
        losses=record.losses[:until],
        weights=record.weights[:until],
        curve={name: values[: int(time)] for name, values in record.curve.items()},
    )
    row = list(FEATURES[method](record, time))
    assert row == list(FEATURES[method](cut, time))
    assert np.isfinite(row).all()


def test_rows_of_a_method_have_one_length(study: RunDataset) -> None:
    for name, read in FEATURES.items():
        assert len({len(read(record, 1 / 4)) for record in study.records}) == 1, name
    assert len(losses(study.records[0], 1 / 16)) == len(losses(study.records[0], 3.0))
    assert len(curves(study.records[0], 1.0)) == len(curves(study.records[0], 3.0))
