"""Scores of held-out predictions."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_nndyn.predictor.scores import mean_rank_correlation


def test_ranks_are_compared_within_populations_only() -> None:
    truth = np.concatenate([np.arange(20), 100 + np.arange(20)]).astype(float)
    predicted = np.concatenate([np.arange(20), np.arange(20)]).astype(float)
    names = np.repeat(["a", "b"], 20)
    assert mean_rank_correlation(truth, predicted, names) == pytest.approx(1)
    assert mean_rank_correlation(truth[:5], predicted[:5], names[:5]) == 0.0  # too few to rank
