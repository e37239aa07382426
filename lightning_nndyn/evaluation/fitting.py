"""Fits a predictor to a corpus."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lightning_nndyn.corpus import load_corpus
from lightning_nndyn.corpus.access import corpus_manifest
from lightning_nndyn.corpus.status import low_threshold as threshold_on
from lightning_nndyn.corpus.status import training_images
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import Predictor, Training


def fit_predictor(corpus: Path | str, *, low_threshold: float | None = None, **settings: Any) -> Predictor:
    """Fits a predictor to the best test accuracy of a corpus's runs.

    Args:
        corpus: a corpus folder, or a parquet file that was exported from one.
        low_threshold: accuracy below which a run is low, a fraction; None takes the preset's.
        settings: further arguments of `Predictor`.

    Returns:
        The predictor; its card holds cross-validated scores and the calibration.

    Raises:
        CorpusError: if the corpus cannot be read.
        MissingExtraError: if the corpus is a parquet file and pyarrow is not installed.
        PredictorError: if it has no runs or too few, or a setting is unknown.
    """
    manifest = corpus_manifest(corpus)
    name = manifest["settings"]["name"]
    records = [record for record in load_corpus(corpus, raw=False) if not record.failed]
    if not records:
        raise PredictorError(f"corpus {name!r} has no runs yet: train some with nndyn corpus train")
    if low_threshold is None:
        low_threshold = _threshold(manifest["settings"])
    predictor = Predictor(low_threshold=low_threshold, **settings)
    return predictor.fit(
        [record.snapshots for record in records],
        [record.best_accuracy for record in records],
        corpus=name,
        training=Training(
            steps_per_epoch=math.ceil(training_images(manifest) / manifest["settings"]["batch_size"]),
            optimizer=records[0].config["optimizer"],
        ),
    )


def _threshold(settings: dict[str, Any]) -> float:
    datasets = settings["datasets"]
    if len(datasets) > 1:
        raise PredictorError(
            f"corpus {settings['name']!r} has several data sets ({', '.join(datasets)}): pass low_threshold"
        )
    return threshold_on(settings, datasets[0])
