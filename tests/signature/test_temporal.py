"""The temporal forms against their formulas."""

import numpy as np
import pytest

import lightning_nndyn as nd


def test_temporal_forms_follow_their_formulas() -> None:
    s = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_array_equal(nd.temporal(s), s)
    linear = [sum((j + 1) * s[j] for j in range(i + 1)) / sum(range(1, i + 2)) for i in range(5)]
    np.testing.assert_allclose(nd.temporal(s, "linear"), linear)
    smooth = [s[0]]
    for row in s[1:]:
        smooth.append(0.3 * row + 0.7 * smooth[-1])
    np.testing.assert_allclose(nd.temporal(s, "exponential", alpha=0.3), smooth)


@pytest.mark.parametrize("arguments", [{"form": "cubic"}, {"form": "exponential", "alpha": 0}])
def test_unknown_temporal_forms_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"cubic|alpha=0"):
        nd.temporal(np.zeros((2, 2)), **arguments)
