"""A corpus folder of twenty small perceptrons on digits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lightning_nndyn.corpus import GridPreset, load_digits_data, train_run
from lightning_nndyn.corpus.storage.folder import CorpusFolder
from lightning_nndyn.corpus.training.run_data import describe


def write_corpus(folder: Path, *, width: int = 8, epochs: int = 1) -> Path:
    """Train runs with twenty learning rates; the folder's name is the corpus'."""
    rates = tuple(np.logspace(-2.5, -0.3, 20).tolist())
    preset = GridPreset(
        folder.name, "zoo_network", "digits", learning_rates=rates, dropouts=(0.0,), crop_padding=0,
        flip=False, epochs=epochs, batch_size=128, low_threshold=0.7,
    )  # fmt: skip
    options = {
        "kind": "mlp", "widths": (width,), "activation": "relu", "normalisation": "none", "residual": False,
        "init_scale": 1.0,
    }  # fmt: skip
    data = load_digits_data()
    store = CorpusFolder(folder)
    store.open(preset.settings(), {"digits": describe(data)})
    for index in range(20):
        store.write(train_run(replace(preset.config(index), network_options=options), data))
    return folder
