"""Corpora of real training runs, on which predictors are fitted.

    from lightning_nndyn.corpus import get_preset, load_corpus, run_corpus
    run_corpus(get_preset("lenet5-digits"), "corpora/lenet5-digits", runs=4)
    records = load_corpus("corpora/lenet5-digits")

`presets` says what is trained, `data` loads images, `training` trains one run, `record` is what it leaves,
`store` and `parquet` keep it, `runner` works through a whole corpus.
"""

from lightning_nndyn.corpus.data import ImageData, load_data, load_digits_data
from lightning_nndyn.corpus.presets import PRESETS, Preset, RunConfig, get_preset
from lightning_nndyn.corpus.record import RunRecord
from lightning_nndyn.corpus.runner import corpus_status, export_parquet, load_corpus, run_corpus
from lightning_nndyn.corpus.training import train_run

__all__ = [
    "PRESETS",
    "ImageData",
    "Preset",
    "RunConfig",
    "RunRecord",
    "corpus_status",
    "export_parquet",
    "get_preset",
    "load_corpus",
    "load_data",
    "load_digits_data",
    "run_corpus",
    "train_run",
]
