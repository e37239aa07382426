"""The temporal signature: three ways to combine the signatures of a run over time (section 3.2, S3)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lightning_nndyn.signature.snapshot import Array

Form = Literal["plain", "linear", "exponential"]


def temporal(signatures: Array, form: Form = "plain", alpha: float = 0.5) -> Array:
    """The temporal form of a series of signatures; its rows concatenated are the paper's S_t (S3).

    Args:
        signatures: [n, k], one signature per snapshot, earliest first.
        form: ``"plain"`` leaves them as they are; ``"linear"`` takes at each time the mean of all signatures
            so far, with weights 1, 2, ...; ``"exponential"`` is exponential smoothing: ``alpha * signature +
            (1 - alpha) * smoothed value before``.
        alpha: weight of the newest signature in the exponential form, within (0, 1].

    Returns:
        [n, k], float64.

    Raises:
        ValueError: if ``form`` is unknown, ``alpha`` out of range or ``signatures`` not two-dimensional.
    """
    series = np.asarray(signatures, dtype=np.float64)
    if series.ndim != 2:
        raise ValueError(f"signatures must be [n, k], got shape {series.shape}")
    if form == "plain":
        return series.copy()
    if form == "linear":
        weight = np.arange(1, len(series) + 1, dtype=np.float64)
        return np.cumsum(weight[:, None] * series, axis=0) / np.cumsum(weight)[:, None]
    if form != "exponential":
        raise ValueError(f"form={form!r} is unknown: take 'plain', 'linear' or 'exponential'")
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha={alpha} must be within (0, 1]")
    smoothed = series.copy()
    for i in range(1, len(smoothed)):
        smoothed[i] = alpha * series[i] + (1 - alpha) * smoothed[i - 1]
    return smoothed
