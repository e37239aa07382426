"""Records one training run: builds its network, reads its weights at the agreed times, keeps its curves."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata

import numpy as np
import torch
from torch import Tensor, nn

from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.storage.record import (
    CURVES,
    RECORD_VERSION,
    LayerNumbers,
    RunRecord,
    patience_epoch,
    single_precision,
)
from lightning_nndyn.corpus.training.data import ImageData
from lightning_nndyn.corpus.training.network import build_network, network_options
from lightning_nndyn.corpus.training.weight_statistics import WeightStatistics
from lightning_nndyn.graph.tracing.tracer import rolled_graph
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES, SIGNATURE_VERSION, Snapshot, batch_of

_RECENT = 1 / 16  # of an epoch: the window of the recent training loss


@dataclass(frozen=True)
class EpochRow:
    """What one epoch adds to the curves, in the order of `CURVES`."""

    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    learning_rate: float
    seconds: float


class RunRecorder:
    """The network of a run, and what is recorded of it. It trains nothing: see `training.train`."""

    def __init__(self, config: RunConfig, data: ImageData, batches: int) -> None:
        """Build the network from torch's global random state, and trace its graph.

        Args:
            config: The run's settings.
            data: The images it is trained on, already as few as the settings say; the network goes to
                their device.
            batches: Batches in an epoch.

        Raises:
            TracingError: The network has no rolled graph.
        """
        self.config, self.data, self.batches = config, data, batches
        self.started = time.perf_counter()
        self.model: nn.Module = build_network(config, data).to(data.device)
        example = data.normalise(data.test_images[:2])
        self.taker = SnapshotReader(rolled_graph(self.model, example), per_layer=True)
        self.weights = WeightStatistics(self.model)
        self.snapshots: list[Snapshot] = []
        self.losses: list[tuple[float, float]] = []
        self.layers: list[LayerNumbers] = []
        self.curve: dict[str, list[float]] = {name: [] for name in CURVES}
        self.diverged: float | None = None

    def snapshot_times(self, epoch: int) -> dict[int, list[float]]:
        """Batch counts of an epoch and the times that fall on them: several, where batches are few."""
        times: dict[int, list[float]] = {}
        for moment in (*(DEFAULT_TIMES if epoch == 1 else ()), 1.0):
            times.setdefault(batch_of(moment, self.batches), []).append(epoch - 1 + moment)
        return times

    def snapshot(self, moment: float, losses: Tensor) -> bool:
        """Record the network at a time in epochs; False once a weight or a loss is not finite.

        Args:
            moment: The time.
            losses: Of all batches of its epoch so far [batches]; empty before the first one.
        """
        snapshot = self.taker.read(moment)
        recent = batch_of(_RECENT, self.batches)
        so_far, lately = float(losses.mean()), float(losses[-recent:].mean())  # NaN before the first batch
        # `weights` has the distances exactly, of all entries.
        self.snapshots.append(replace(snapshot, layers=single_precision(snapshot.layers), distances=()))
        self.losses.append((so_far, lately))
        self.layers.append(self.weights.read())
        if self.diverged is None and not (snapshot.finite and (moment == 0 or np.isfinite(so_far))):
            self.diverged = moment
        return self.diverged is None

    def end_epoch(self, row: EpochRow) -> None:
        """Add an epoch to the curves."""
        for name in CURVES:
            self.curve[name].append(getattr(row, name))

    def record(self, departures: Sequence[str], failure: str | None = None) -> RunRecord:
        """What became of the run; `failure` says what ended it before its time."""
        record = empty_record(self.config, self.data, departures)
        return replace(
            record,
            snapshots=self.snapshots,
            losses=self.losses,
            weights=self.layers,
            curve=self.curve,
            patience_epoch=patience_epoch(self.curve["test_accuracy"], self.config.patience),
            diverged_epoch=self.diverged,
            reason=self._reason(failure),
            failed=failure is not None,
            seconds=time.perf_counter() - self.started,
        )

    def _reason(self, failure: str | None) -> str:
        if failure is not None:
            last = self.snapshots[-1].epoch if self.snapshots else 0
            return f"failed after epoch {last:g}: {failure}"
        return "all epochs trained" if self.diverged is None else f"diverged at epoch {self.diverged:g}"


def empty_record(
    config: RunConfig, data: ImageData, departures: Sequence[str], failure: str | None = None
) -> RunRecord:
    """The record of a run that has done nothing yet, or could not even start."""
    return RunRecord(
        index=config.index,
        config=asdict(config) | {"network_options": network_options(config, data)},
        snapshots=[],
        losses=[],
        weights=[],
        curve={name: [] for name in CURVES},
        patience_epoch=None,
        diverged_epoch=None,
        reason=f"failed before the first step: {failure}",
        seconds=0.0,
        failed=True,
        departures=list(departures),
        versions=_versions(data.device),
    )


def _versions(device: torch.device) -> dict[str, str]:
    try:
        package = metadata.version("lightning-nndyn")
    except metadata.PackageNotFoundError:  # a source tree that was never installed
        package = "source"
    card = {"device": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return {
        "record": str(RECORD_VERSION),
        "signature": str(SIGNATURE_VERSION),
        "lightning-nndyn": package,
        "torch": torch.__version__,
        **card,
    }
