"""A corpus of six runs of a second each, two of which diverge."""

import json
from pathlib import Path
from typing import Any

from lightning_nndyn.corpus import (
    GridPreset,
    load_corpus,
    run_corpus,
)

TINY = GridPreset(
    "tiny", "lenet5", "digits", learning_rates=(0.01, 0.05, 1e4), dropouts=(0.0, 0.5),
    crop_padding=1, flip=False, epochs=2, images=256, test_images=100,
)  # fmt: skip


def run(folder: Path, **options: Any) -> None:
    run_corpus(TINY, folder, **({"jobs": 1, "progress": False} | options))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "runs").iterdir())}


def texts(path: Path, **options: bool) -> list[str]:
    return [json.dumps(record.to_dict()) for record in load_corpus(path, **options)]
