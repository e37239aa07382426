"""Corpora of real training runs, on which predictors are fitted.

    from lightning_nndyn.corpus import get_preset, load_corpus, run_corpus
    run_corpus(get_preset("lenet5-digits"), "corpora/lenet5-digits", runs=4)
    records = load_corpus("corpora/lenet5-digits")

- What is trained: `config` has the settings of one run, `preset` those of a corpus, `grid` of the paper's,
  `zoo_preset` of random ones (drawn by `zoo`, built by `zoo_networks`), `sweeps` of whole sweeps, `presets`
  the list of all.
- Training a run: `data` loads images, `arrays` has what is none, `batches` cuts them up, `networks` makes the
  network, `flow_chain` its graphs, `optimizers` and `schedules` its steps; `training` trains it, or `packing`
  many at once on a card; `run` and `weights` are what is kept of it, `record` what it leaves.
- A corpus: `store` and `parquet` keep it, `access` reads it; `runner` works through it, on `backends`, with
  images from `sources`; `status` and `verify` look at it.
"""

from lightning_nndyn.corpus.presets import PRESETS, get_preset
from lightning_nndyn.corpus.presets.base import Preset
from lightning_nndyn.corpus.presets.paper import GridPreset
from lightning_nndyn.corpus.presets.sweeps.preset import SweepPreset
from lightning_nndyn.corpus.presets.zoo import ZooPreset
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.runner import RunOptions, run_corpus
from lightning_nndyn.corpus.status import corpus_status
from lightning_nndyn.corpus.storage import export_parquet, export_parts, import_parquet, load_corpus
from lightning_nndyn.corpus.storage.record import RunRecord
from lightning_nndyn.corpus.training.data import ImageData, load_data, load_digits_data
from lightning_nndyn.corpus.training.train import train_run
from lightning_nndyn.corpus.verify import Comparison, verify_corpus

__all__ = [
    "PRESETS",
    "Comparison",
    "GridPreset",
    "ImageData",
    "Preset",
    "RunConfig",
    "RunOptions",
    "RunRecord",
    "SweepPreset",
    "ZooPreset",
    "corpus_status",
    "export_parquet",
    "export_parts",
    "get_preset",
    "import_parquet",
    "load_corpus",
    "load_data",
    "load_digits_data",
    "run_corpus",
    "train_run",
    "verify_corpus",
]
