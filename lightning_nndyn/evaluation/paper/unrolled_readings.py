"""Statistics of the unrolled graph (App. A.2) of recorded runs, which are trained once more from their seeds.

Corpora have the statistics of the rolled graph alone. A run that is trained again is checked against its
record up to the epoch that is needed: only if it is the same run, its unrolled graph is the one that it had.
Another version of torch may round differently: then the rolled graph's statistics must stay within one per
cent.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from lightning_nndyn._files import decode, read_json
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.storage import load_corpus
from lightning_nndyn.corpus.storage.folder import write_atomically
from lightning_nndyn.corpus.storage.record import RunRecord
from lightning_nndyn.corpus.training.run_data import DataFolders
from lightning_nndyn.corpus.training.train import train_run
from lightning_nndyn.corpus.verify import CorpusData, deviation
from lightning_nndyn.evaluation.result_file import read_rows, write_rows
from lightning_nndyn.graph.unrolled import unrolled_graph
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import STATISTICS

FILE = "unrolled-readings.parquet"

TOLERANCE = 0.01
"""Relative errors of the rolled graph's statistics up to which a run counts as the recorded one."""

POSITIVE, NEGATIVE = "positive", "negative"
"""The signed parts of the unrolled graph."""

_ORDER_SEED = 0

Progress = Callable[[str], None]


class UnrolledObserver:
    """Reads the signed parts of a network's unrolled graph at the ends of epochs.

    Attributes:
        rows: a row for each part and epoch, with the ten statistics of `STATISTICS`.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._readers: dict[str, SnapshotReader] = {}

    def __call__(self, model: nn.Module, example: Tensor, epoch: float) -> None:
        """Reads at an epoch's end; other times are passed over."""
        if epoch != int(epoch):
            return
        if not self._readers:
            graph = unrolled_graph(model, example)
            parts = {POSITIVE: graph.positive(), NEGATIVE: graph.negative()}
            self._readers = {
                name: SnapshotReader(part)  # type: ignore[arg-type]  # it has a rolled graph's interface
                for name, part in parts.items()
            }
        for name, reader in self._readers.items():
            snapshot = reader.read(epoch)
            numbers = dict(zip(STATISTICS, snapshot.statistics, strict=True))
            own = {"graph": name, "epoch": int(epoch), "residual": snapshot.residual}
            self.rows.append(own | {"products": snapshot.iterations} | numbers)


@dataclass(frozen=True)
class TrainedAgain:
    """A run that was trained once more.

    Attributes:
        verdict: "identical" if all statistics of the rolled graph and all test accuracies are equal to the
            last bit; "close", see `TOLERANCE`; or "different".
        deviation: the largest relative error of the rolled graph's statistics; 1e9 stands for more.
        rows: those of `UnrolledObserver`.
    """

    verdict: str
    deviation: float
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Readings:
    """Where the readings of finished runs are kept, one file a run: an interrupted command goes on."""

    folder: Path

    def file(self, corpus: str, index: int, until: int) -> Path:
        """The file of a run, read up to an epoch."""
        return self.folder / f"{corpus}-{index:05d}-{until}.json"

    def of(self, corpus: str, index: int, until: int) -> TrainedAgain | None:
        """A run; None if it has not been trained again."""
        with suppress(OSError, ValueError):
            return decode(read_json(self.file(corpus, index, until)), TrainedAgain)
        return None

    def write(self, corpus: str, index: int, until: int, run: TrainedAgain) -> None:
        """Keeps a run, whole or not at all."""
        write_atomically(self.file(corpus, index, until), json.dumps(asdict(run)).encode())


def read_unrolled(
    corpora: Sequence[Path | str],
    output: Path | str,
    *,
    folder: Path | str,
    runs: int,
    epochs: int,
    data: DataFolders = None,
    minutes: float | None = None,
    on_progress: Progress = lambda message: None,
) -> int:
    """Trains runs of corpora again and writes what their unrolled graphs were; goes on where it stopped.

    Args:
        corpora: corpus folders or parquet files, one after the other.
        output: folder of `unrolled-readings.parquet`, to which new runs are added.
        folder: for the readings of single runs and decoded images.
        runs: how many of each corpus, in a fixed random order.
        epochs: the last epoch that is read.
        data: folders of the images, as for `run_corpus`.
        minutes: begin no run after so many; None for no limit.
        on_progress: called with a line about each run.

    Returns:
        The number of runs that differ from their records. They are left out of the file.

    Raises:
        CorpusError: a corpus cannot be read, or the data are other ones.
    """
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    kept, output = Readings(Path(folder)), Path(output)
    known, _ = read_rows(output / FILE)
    different = 0
    rows = {(row["corpus"], row["run"], row["graph"], row["epoch"]): row for row in known}
    try:
        for corpus in corpora:
            for name, index, run in _trained_again(Path(corpus), kept, runs, epochs, data, deadline):
                on_progress(f"{name}, run {index}: {run.verdict}, statistics within {run.deviation:.1e}")
                if run.verdict == "different":
                    different += 1
                    continue
                about = {"corpus": name, "run": index, "check": run.verdict}
                rows |= {(name, index, row["graph"], row["epoch"]): about | row for row in run.rows}
    finally:
        if rows:
            write_rows(output / FILE, [rows[key] for key in sorted(rows)])
    return different


def _trained_again(
    path: Path, kept: Readings, runs: int, epochs: int, data: DataFolders, deadline: float | None
) -> Iterator[tuple[str, int, TrainedAgain]]:
    """Name of the corpus, number and readings of each run, from the folder or trained again."""
    sources = CorpusData(path, kept.folder / "cache", data)
    records = [record for record in load_corpus(path, raw=True) if not record.failed]
    # Indices may follow the grid: the first runs would all have the smallest learning rates.
    order = np.random.default_rng(_ORDER_SEED).permutation(len(records))[:runs]
    name = path.stem
    for record in (records[place] for place in order):
        until = min(epochs, record.config["epochs"])
        run = kept.of(name, record.index, until)
        if run is None:
            if deadline is not None and time.monotonic() > deadline:
                return
            run = train_again(record, sources, until)
            kept.write(name, record.index, until, run)
        yield name, record.index, run


def train_again(record: RunRecord, sources: CorpusData, until: int) -> TrainedAgain:
    """Trains a run up to an epoch, and reads its unrolled graph at the end of each."""
    config = RunConfig.from_record(record.config)
    observer = UnrolledObserver()
    again = train_run(config, sources.of(config), record.departures, observer=observer, until=until)
    error = deviation(record, again, until)
    if again.failed or error > TOLERANCE:
        return TrainedAgain("different", min(error, 1e9), observer.rows)
    accuracies = [run.curve["test_accuracy"][:until] for run in (record, again)]
    same = error == 0 and accuracies[0] == accuracies[1]
    return TrainedAgain("identical" if same else "close", error, observer.rows)
