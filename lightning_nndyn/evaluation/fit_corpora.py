"""Fit a predictor to recorded corpora."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.predictor import Predictor

LOW_SHARE = 0.5
"""Share of the best accuracy below which a run is low, where populations have no threshold in common."""


def fit_predictor(
    corpora: Path | str | Sequence[Path | str],
    *,
    name: str | None = None,
    low_threshold: float | None = None,
    low_share: float | None = None,
    **settings: Any,
) -> Predictor:
    """Fit a predictor to the best test accuracy of the runs of one corpus or several.

    Args:
        corpora: corpus folders, or parquet files that were exported from them.
        name: of the predictor; None takes the corpora's names.
        low_threshold: accuracy below which a run is low, a fraction; None takes the preset's.
        low_share: instead of it, a share of the best accuracy on the same network and data. With several
            corpora, or one with several data sets, 0.5 unless either is given.
        settings: further arguments of `Predictor`.

    Returns:
        The predictor; its card holds cross-validated scores and the calibration.

    Raises:
        CorpusError: if a corpus cannot be read.
        MissingExtraError: if a corpus is a parquet file and pyarrow is not installed.
        PredictorError: if one has no runs or too few, or a setting is unknown.
    """
    runs = RunDataset.load(corpora, name)
    return runs.fit(new_predictor(runs, low_threshold, low_share, **settings))


def new_predictor(
    runs: RunDataset,
    low_threshold: float | None = None,
    low_share: float | None = None,
    **settings: Any,
) -> Predictor:
    """A predictor that is not fitted yet, with the low-accuracy rule that suits the runs unless one is given.

    Args:
        runs: of one population, whose threshold is taken, or of several.
        low_threshold: see `fit_predictor`.
        low_share: see `fit_predictor`.
        settings: further arguments of `Predictor`.
    """
    if low_threshold is None and low_share is None:
        if len(set(runs.populations)) == 1:
            low_threshold = float(runs.thresholds[0])
        else:
            low_share = LOW_SHARE
    return Predictor(low_threshold=low_threshold, low_share=low_share, **settings)
