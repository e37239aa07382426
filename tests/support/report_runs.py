"""Recorded runs for the tests of the report."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

from callback_runs import Digits, trainer, watcher
from digits_runs import DOOMED, GOOD, predictor, shared
from lightning.pytorch.loggers import CSVLogger

from lightning_nndyn.callback.record_file import read_record

EPOCHS = 3
NASTY = "</script><img src=x onerror=alert(1)>\"'&\u2028"
RATES = (0.02, 0.035, GOOD, 0.065, 3e-6, 1e-5, DOOMED)


def run(folder: Path, rate: float, seed: int, *, model: Any = Digits, **settings: Any) -> None:
    """One run of the sweep, recorded in a log folder of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        callback = watcher(
            predictor(curves=True), **{"monitor": "val_accuracy", "verbose": False, **settings}
        )
        logger = CSVLogger(folder / "lightning_logs", name="sweep")
        one = trainer(callback, logger=logger, max_epochs=EPOCHS, default_root_dir=folder)
        one.fit(model(rate, seed, validate=True))


@shared
def recorded() -> dict[str, bytes]:
    """The files of seven runs that were observed, one that was stopped, one that an audit has spared."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for seed, rate in enumerate(RATES):
            run(folder, rate, seed, action="observe", audit_share=0.5)
        run(folder, DOOMED, seed=20)
        run(folder, DOOMED, seed=21, audit_share=1 - 1e-9)
        files = (file for file in folder.rglob("*") if file.is_file())
        return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def write_recorded(folder: Path) -> Path:
    """Put the files of `recorded` into a folder."""
    for name, content in recorded().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def records(folder: Path) -> list[dict[str, Any]]:
    return [read_record(one) for one in sorted(folder.rglob("nndyn-*.json"))]


def accuracy(record: dict[str, Any]) -> float:
    return max(record["metrics"]["val_accuracy"])


def low_below() -> float:
    return float(predictor(curves=True).low_threshold or 0)
