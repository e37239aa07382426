"""The learner that all methods share."""

import numpy as np

from lightning_nndyn.evaluation import RunDataset
from lightning_nndyn.evaluation.benchmark.compare import padded
from lightning_nndyn.evaluation.benchmark.learners import Learner
from lightning_nndyn.evaluation.benchmark.method_features import graph_v2


def test_a_learner_learns_and_repeats_itself(study: RunDataset) -> None:
    x = padded([graph_v2(record, 1.0) for record in study.records])
    first, again = (Learner(0).fit(x[::2], study.accuracies[::2]) for _ in range(2))
    assert first.choice == again.choice
    assert (first.predict(x[1::2]) == again.predict(x[1::2])).all()
    error = np.abs(first.predict(x[1::2]) - study.accuracies[1::2]).mean()
    assert error < 0.8 * np.abs(np.median(study.accuracies[::2]) - study.accuracies[1::2]).mean()
