"""Corpora: of six short runs, two of which diverge; of minutes, to be stopped; and one to evaluate."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from digits_runs import shared

from lightning_nndyn.corpus import GridPreset, RunRecord, load_corpus, load_digits_data, run_corpus, train_run

TINY = GridPreset(
    "tiny", "lenet5", "digits", learning_rates=(0.01, 0.05, 1e4), dropouts=(0.0, 0.5),
    crop_padding=1, flip=False, epochs=2, images=256, test_images=100,
)  # fmt: skip

LONG = GridPreset(
    "long", "lenet5", "digits", learning_rates=tuple(number / 1000 for number in range(1, 101)),
    dropouts=(0.0, 0.1, 0.2, 0.5), crop_padding=1, flip=False, epochs=2, images=512,
)  # fmt: skip

SMALL = GridPreset(
    "small", "lenet5", "digits", learning_rates=tuple(np.logspace(-4, -0.5, 12).tolist()),
    dropouts=(0.0, 0.3), crop_padding=1, flip=False, epochs=3, batch_size=32, low_threshold=0.5,
)  # fmt: skip


@shared
def small_corpus() -> list[RunRecord]:
    """The runs of the corpus that is evaluated."""
    data = load_digits_data()
    return [train_run(SMALL.config(index), data) for index in range(len(SMALL))]


def run(folder: Path, **options: Any) -> None:
    run_corpus(TINY, folder, **({"jobs": 1, "progress": False} | options))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "runs").iterdir())}


def texts(path: Path, **options: bool) -> list[str]:
    return [json.dumps(record.to_dict()) for record in load_corpus(path, **options)]
