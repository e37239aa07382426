"""Statistics of raw weights."""

import math

import numpy as np
import torch
from scipy import stats

from lightning_nndyn import models
from lightning_nndyn.corpus.training.recorder import WeightStatistics


def test_weight_statistics_equal_scipys() -> None:
    model = models.lenet5(10, in_channels=1, image_size=8)
    reader = WeightStatistics(model)
    weight = model.get_parameter("3.weight")
    with torch.no_grad():
        weight.add_(0.5)
    values = weight.detach().double().flatten().numpy()
    expected = [
        np.linalg.norm(values), values.mean(), values.std(), stats.skew(values), stats.kurtosis(values),
        *np.quantile(values, [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1]),
        0.5 * math.sqrt(len(values)),
    ]  # fmt: skip
    np.testing.assert_allclose(reader.read()["3"], expected, rtol=1e-4, atol=1e-6)
