"""Trains some runs of a corpus again and compares them with their records."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.status import is_trainable
from lightning_nndyn.corpus.storage import corpus_manifest, load_corpus, parquet_files
from lightning_nndyn.corpus.storage.folder import CorpusFolder, check_same
from lightning_nndyn.corpus.storage.parquet import horizon_of, thinned
from lightning_nndyn.corpus.storage.record import RunRecord
from lightning_nndyn.corpus.training.arrays import RunData
from lightning_nndyn.corpus.training.run_data import DataFolders, data_folders, describe, load_source
from lightning_nndyn.corpus.training.train import train_run
from lightning_nndyn.errors import CorpusError
from lightning_nndyn.signature.snapshot import STATISTICS, Snapshot

ACCURACY_TOLERANCE = 0.05
"""By how much a best accuracy may change where processor, device or torch version round differently."""

_FIRST_WEIGHTS_TOLERANCE = 1e-4  # relative: the same random numbers may be summed in another order


@dataclass(frozen=True)
class Comparison:
    """A run as recorded and as trained again.

    `verdict` is "identical" if all measurements except wall times are equal to the last bit, "close" if the
    first weights are the same, the run ends in the same way (diverged or not) and its best accuracy is within
    `ACCURACY_TOLERANCE`, else "different". Accuracies are fractions; `torch` is the version
    that the record was made with.
    """

    index: int
    verdict: str
    recorded_accuracy: float
    accuracy: float
    first_statistics_error: float
    torch: str


def verify_corpus(
    path: Path | str, *, runs: int = 3, seed: int = 0, data: DataFolders = None, download: bool = False
) -> Iterator[Comparison]:
    """Train random runs of a corpus again, on the CPU, and compare them, one after the other.

    Args:
        path: A corpus folder, an exported parquet file, or a folder of these.
        runs: How many runs; those that learn something come first, as others repeat too easily.
        seed: Of the choice of runs.
        data: Folders of the images, as for `run_corpus`; not needed if the corpus folder's cache has them.
        download: Let torchvision download CIFAR-10 into its folder.

    Raises:
        CorpusError: There is no corpus, it has no run that did not fail, or the data are other ones.
        MissingExtraError: torchvision or pyarrow is needed and not installed.
    """
    path = Path(path)
    records = [record for record in load_corpus(path, raw=True) if not record.failed]
    if not records:
        raise CorpusError(f"the corpus {str(path)!r} has no whole run yet: nothing to verify")
    manifest = corpus_manifest(path)
    order = np.random.default_rng(seed).permutation(len(records)).tolist()
    chosen = sorted(order, key=lambda index: not is_trainable(records[index], manifest))[:runs]
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) if parquet_files(path) else CorpusFolder(path).cache
        sources = CorpusData(path, cache, data, download)
        for index in sorted(chosen):
            config = RunConfig.from_record(records[index].config)
            yield _compare(records[index], config, sources.of(config))


@dataclass(frozen=True)
class CorpusData:
    """The data sets that a corpus was trained on, checked against its manifest.

    Attributes:
        path: The corpus.
        cache: Folder for decoded images.
        data: Folders of the images, as for `run_corpus`.
        download: Let torchvision download CIFAR-10 into its folder.
    """

    path: Path
    cache: Path
    data: DataFolders = None
    download: bool = False
    _loaded: dict[tuple[str, int | None], RunData] = field(default_factory=dict)

    def of(self, config: RunConfig) -> RunData:
        """The whole data set of a run.

        Raises:
            CorpusError: It is another one than the corpus was trained on, or cannot be read.
        """
        key = (config.dataset, config.size)
        if key not in self._loaded:
            manifest = corpus_manifest(self.path)
            folders = data_folders(tuple(manifest["settings"]["datasets"]), self.data)
            folder = folders.get(config.dataset)
            source = load_source(config.dataset, folder, self.cache, config.size, self.download)
            check_same(self.path, manifest["data"][config.dataset], describe(source))
            self._loaded.clear()  # one at a time: images take memory
            self._loaded[key] = source
        return self._loaded[key]


def deviation(record: RunRecord, again: RunRecord, until: int) -> float:
    """The largest relative error of the ten statistics up to an epoch.

    It is infinite if one run ends before the other. Errors of skewness and kurtosis are relative to 1 where
    they are smaller: they may be zero.
    """
    ours, theirs = (_up_to(run, until) for run in (record, again))
    if [one.epoch for one in ours] != [one.epoch for one in theirs]:
        return np.inf
    first, second = (np.array([one.statistics for one in run]) for run in (ours, theirs))
    both_diverged = ~np.isfinite(first) & ~np.isfinite(second)
    floor = np.array([1.0 if name.endswith(("skewness", "kurtosis")) else 1e-12 for name in STATISTICS])
    errors = np.abs(first - second) / np.maximum(np.abs(first), floor)
    return float(np.nan_to_num(np.where(both_diverged, 0, errors), nan=np.inf).max())


def _up_to(record: RunRecord, until: int) -> list[Snapshot]:
    return [snapshot for snapshot in record.snapshots if snapshot.epoch <= until]


def _compare(record: RunRecord, config: RunConfig, data: RunData) -> Comparison:
    again = thinned(train_run(config, data, record.departures), horizon_of(record))
    error = _first_statistics_error(record, again)
    accuracy_moved = abs(again.best_accuracy - record.best_accuracy)
    same_end = (again.failed, again.diverged_epoch is None) == (False, record.diverged_epoch is None)
    if _measured(again) == _measured(record):
        verdict = "identical"
    elif same_end and error <= _FIRST_WEIGHTS_TOLERANCE and accuracy_moved <= ACCURACY_TOLERANCE:
        verdict = "close"
    else:
        verdict = "different"
    return Comparison(
        index=record.index,
        verdict=verdict,
        recorded_accuracy=record.best_accuracy,
        accuracy=again.best_accuracy,
        first_statistics_error=error,
        torch=record.versions["torch"],
    )


def _first_statistics_error(record: RunRecord, again: RunRecord) -> float:
    """The largest relative error of the ten statistics before the first step; infinite without any."""
    if not again.snapshots:
        return np.inf
    ours, theirs = (np.array(run.snapshots[0].statistics) for run in (record, again))
    return float(np.max(np.abs(ours - theirs) / np.maximum(np.abs(ours), 1e-12)))


def _measured(record: RunRecord) -> str:
    """All measurements except wall times, as text, in which NaN equals NaN."""
    # Records of version 1 files have no facts about the graph; its size and statistics tell graphs apart.
    snapshots = [replace(snapshot, topology="", kinds=(), depth=0) for snapshot in record.snapshots]
    plain = replace(record, snapshots=snapshots).to_dict()
    curve = {name: values for name, values in record.curve.items() if name != "seconds"}
    return json.dumps(
        [curve, *(plain[name] for name in ("snapshots", "flow", "losses", "weights", "diverged_epoch"))]
    )
