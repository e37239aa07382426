"""The Gaussian process, against one that is solved anew without each run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lightning_nndyn.sweep.gaussian_process import GaussianProcess


def table(seed: int = 0, n: int = 25) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = [rng.normal(size=(n, 2)), rng.normal(size=(n, 3)), np.empty((n, 0))]
    return groups, np.sin(groups[0][:, 0]) + 0.1 * rng.normal(size=n)


def again(
    groups: list[np.ndarray], targets: np.ndarray, fit: GaussianProcess
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each run, by a process that is solved anew without it."""
    n, means, spreads = len(targets), [], []

    def kernel(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
        pairs = zip(a, b, fit.scales, strict=True)
        distance = sum(s**2 * ((x[:, None] - y[None]) ** 2).sum(-1) for x, y, s in pairs)
        return np.exp(-0.5 * distance)

    for left in range(n):
        rest = np.arange(n) != left
        others, own = [group[rest] for group in groups], [group[[left]] for group in groups]
        solved = np.linalg.inv(kernel(others, others) + fit.noise * np.eye(n - 1))
        near = kernel(own, others)
        means.append(fit.offset + (near @ solved @ (targets[rest] - fit.offset))[0])
        spreads.append(fit.signal_std * np.sqrt(1 + fit.noise - (near @ solved @ near.T)[0, 0]))
    return np.array(means), np.array(spreads)


def test_leaving_one_out_is_solving_without_it() -> None:
    groups, targets = table()
    fit = GaussianProcess.fit(groups, targets)
    errors, spreads = fit.leave_one_out()
    means, expected = again(groups, targets, fit)
    np.testing.assert_allclose(targets - errors, means, atol=1e-8)
    np.testing.assert_allclose(spreads, expected, rtol=1e-6)


def test_the_process_predicts_what_its_formula_says() -> None:
    groups, targets = table()
    fit = GaussianProcess.fit([group[:-1] for group in groups], targets[:-1])
    mean, spread = fit.predict([group[-1:] for group in groups])
    full = replace(fit, groups=groups)
    means, spreads = again(groups, targets, full)
    assert mean[0] == pytest.approx(means[-1], abs=1e-8) and spread[0] == pytest.approx(spreads[-1], rel=1e-6)


def test_the_group_that_tells_is_found_and_the_other_left_out() -> None:
    groups, targets = table(n=60)
    fit = GaussianProcess.fit(groups, targets)
    assert fit.scales[0] > 0 and fit.scales[1] == 0
