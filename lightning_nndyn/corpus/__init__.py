"""Corpora of recorded training runs, on which predictors are fitted: sections 4 and A.1 of the paper.

    from lightning_nndyn.corpus import get_preset, load_corpus, run_corpus
    run_corpus(get_preset("lenet5-digits"), "corpora/lenet5-digits", runs=4)
    records = load_corpus("corpora/lenet5-digits")

A preset flows in: networks, data sets and settings. Records flow out: snapshots of each run's graph, learning
curves and labels.

- `presets` draw the settings of each run (`run_config`); `models` has the paper's networks.
- `training` trains one run and records it.
- `storage` keeps the records, in a folder while runs are trained, in parquet files afterwards.
- `runner` trains all runs of a corpus, in processes or on a cluster (`backends`), and shows its `progress`.
- `status` sums a corpus up; `verify` trains some of its runs once more and compares.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_nndyn.corpus import models as models

# Imported at first use: `lightning_nndyn.models` needs neither scikit-learn nor joblib.
_HOMES = {
    "PRESETS": "presets",
    "Comparison": "verify",
    "GridPreset": "presets.paper",
    "ImageData": "training.data",
    "Preset": "presets.base",
    "RunConfig": "run_config",
    "RunOptions": "runner",
    "RunRecord": "storage.record",
    "SweepPreset": "presets.sweeps.preset",
    "ZooPreset": "presets.zoo",
    "corpus_status": "status",
    "export_parquet": "storage",
    "export_parts": "storage",
    "get_preset": "presets",
    "import_parquet": "storage",
    "load_corpus": "storage",
    "load_data": "training.data",
    "load_digits_data": "training.data",
    "run_corpus": "runner",
    "train_run": "training.train",
    "verify_corpus": "verify",
}

__all__ = [*_HOMES]

if TYPE_CHECKING:
    from lightning_nndyn.corpus.presets import PRESETS as PRESETS
    from lightning_nndyn.corpus.presets import get_preset as get_preset
    from lightning_nndyn.corpus.presets.base import Preset as Preset
    from lightning_nndyn.corpus.presets.paper import GridPreset as GridPreset
    from lightning_nndyn.corpus.presets.sweeps.preset import SweepPreset as SweepPreset
    from lightning_nndyn.corpus.presets.zoo import ZooPreset as ZooPreset
    from lightning_nndyn.corpus.run_config import RunConfig as RunConfig
    from lightning_nndyn.corpus.runner import RunOptions as RunOptions
    from lightning_nndyn.corpus.runner import run_corpus as run_corpus
    from lightning_nndyn.corpus.status import corpus_status as corpus_status
    from lightning_nndyn.corpus.storage import export_parquet as export_parquet
    from lightning_nndyn.corpus.storage import export_parts as export_parts
    from lightning_nndyn.corpus.storage import import_parquet as import_parquet
    from lightning_nndyn.corpus.storage import load_corpus as load_corpus
    from lightning_nndyn.corpus.storage.record import RunRecord as RunRecord
    from lightning_nndyn.corpus.training.data import ImageData as ImageData
    from lightning_nndyn.corpus.training.data import load_data as load_data
    from lightning_nndyn.corpus.training.data import load_digits_data as load_digits_data
    from lightning_nndyn.corpus.training.train import train_run as train_run
    from lightning_nndyn.corpus.verify import Comparison as Comparison
    from lightning_nndyn.corpus.verify import verify_corpus as verify_corpus


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
