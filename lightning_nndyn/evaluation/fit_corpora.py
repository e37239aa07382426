"""Fits a predictor to a corpus, or to several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_nndyn.evaluation.dataset import Collection
from lightning_nndyn.predictor import Predictor

LOW_SHARE = 0.5
"""Share of the best accuracy below which a run is low, where corpora have no accuracy in common."""


def fit_predictor(
    corpora: Path | str | Sequence[Path | str],
    *,
    name: str | None = None,
    low_threshold: float | None = None,
    low_share: float | None = None,
    **settings: Any,
) -> Predictor:
    """Fits a predictor to the best test accuracy of the runs of one corpus or several.

    Args:
        corpora: corpus folders, or parquet files that were exported from them.
        name: what to call it; None takes the corpora's names.
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
    collection = Collection.load([corpora] if isinstance(corpora, (str, Path)) else corpora, name)
    return collection.fit(new_predictor(collection, low_threshold, low_share, **settings))


def new_predictor(
    collection: Collection,
    low_threshold: float | None = None,
    low_share: float | None = None,
    **settings: Any,
) -> Predictor:
    """One that is not fitted yet, with the bar that suits the runs unless one is given."""
    if low_threshold is None and low_share is None:
        only = list(collection.thresholds.values())
        low_threshold, low_share = (only[0], None) if len(only) == 1 else (None, LOW_SHARE)
    return Predictor(low_threshold=low_threshold, low_share=low_share, **settings)
