"""One training run of the paper's protocol, read as it goes: a plain loop, the whole data set in memory."""

import inspect
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import metadata

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nndyn import models
from lightning_nndyn.corpus.data import ImageData
from lightning_nndyn.corpus.presets import RunConfig
from lightning_nndyn.corpus.record import (
    CURVES,
    RECORD_VERSION,
    LayerNumbers,
    RunRecord,
    patience_epoch,
    single_precision,
)
from lightning_nndyn.signature import DEFAULT_TIMES, SIGNATURE_VERSION, Snapshot, SnapshotTaker, batch_of
from lightning_nndyn.tracing import rolled_graph

_QUANTILES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)
_TEST_BATCH = 500
_RECENT = 1 / 16  # of an epoch: the window of the recent training loss


def train_run(config: RunConfig, data: ImageData, departures: Sequence[str] = ()) -> RunRecord:
    """Train one run on one thread and return its record; the same arguments give the same record.

    The caller's random state and number of threads are left as they were.
    """
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return _Run(config, data.subset(config.images, config.test_images)).train(departures)


def network_options(config: RunConfig, data: ImageData) -> dict[str, float]:
    """The keyword arguments of the network's function that this run needs."""
    channels, size, _ = data.shape
    offered = {"in_channels": channels, "image_size": size}
    takes = inspect.signature(getattr(models, config.network)).parameters
    fitting = {name: value for name, value in offered.items() if name in takes}
    return {"num_classes": len(data.classes), "dropout": config.dropout} | fitting


class BatchLoader:
    """The training batches of an epoch, shuffled, cropped and flipped by a random generator of its own."""

    def __init__(self, config: RunConfig, data: ImageData) -> None:
        """Pad all images once, with black, and lay the channels last, so that a crop is a copy of rows."""
        self.config, self.data = config, data
        self.channels, self.height, self.width = data.shape
        padded = F.pad(data.train_images, (config.crop_padding,) * 4)
        self.windows = self._windows(padded.permute(0, 2, 3, 1).contiguous().numpy())
        self.random = torch.Generator().manual_seed(config.seed + 1)

    def __len__(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-len(self.windows) // self.config.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of images, float [batch, channels, height, width] in -1..1, and labels."""
        count = len(self.windows)
        order = torch.randperm(count, generator=self.random)
        rows, columns = torch.randint(2 * self.config.crop_padding + 1, (2, count), generator=self.random)
        flipped = torch.zeros(count, dtype=torch.bool)
        if self.config.flip:
            flipped = torch.rand(count, generator=self.random) < 0.5
        for chunk, *crop in zip(
            *(part.split(self.config.batch_size) for part in (order, rows, columns, flipped)), strict=True
        ):
            images = self._crop(chunk.numpy(), *(part.numpy() for part in crop))
            yield self.data.normalise(images), self.data.train_labels[chunk]

    def _windows(self, pixels: np.ndarray) -> np.ndarray:
        """A view [image, row, column, height, width * channels] of all crops of all images."""
        image, row, column, _ = pixels.strides  # the last means nothing where there is one channel
        span = 2 * self.config.crop_padding + 1
        shape = (len(pixels), span, span, self.height, self.width * self.channels)
        return np.lib.stride_tricks.as_strided(pixels, shape, (image, row, column, row, pixels.itemsize))

    def _crop(self, chunk: np.ndarray, rows: np.ndarray, columns: np.ndarray, flipped: np.ndarray) -> Tensor:
        """The uint8 images of a batch [batch, channels, height, width], cut at their corners, some mirrored."""
        images = self.windows[chunk, rows, columns].reshape(-1, self.height, self.width, self.channels)
        images[flipped] = images[flipped, :, ::-1]
        return torch.from_numpy(images).permute(0, 3, 1, 2)


class _Run:
    def __init__(self, config: RunConfig, data: ImageData) -> None:
        self.config, self.data = config, data
        self.started = time.perf_counter()
        self.options = network_options(config, data)
        model = getattr(models, config.network)(**self.options)
        self.model: nn.Module = model.to(memory_format=_layout(data))
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            foreach=True,
        )
        self.batches = BatchLoader(config, data)
        self.test_images = data.normalise(data.test_images).contiguous(memory_format=_layout(data))
        example = self.test_images[:2]
        self.taker = SnapshotTaker(rolled_graph(self.model, example), per_layer=True)
        self.weights = WeightStatistics(self.model)
        self.snapshots: list[Snapshot] = []
        self.losses: list[tuple[float, float]] = []
        self.layers: list[LayerNumbers] = []
        self.curve: dict[str, list[float]] = {name: [] for name in CURVES}

    def train(self, departures: Sequence[str]) -> RunRecord:
        self._snapshot(0.0, torch.empty(0))
        diverged = None
        for epoch in range(1, self.config.epochs + 1):
            diverged = self._epoch(epoch)
            if diverged is not None:
                break
        return self._record(diverged, departures)

    def _epoch(self, epoch: int) -> float | None:
        """Train one epoch; returns the time of divergence, or None."""
        started, diverged = time.perf_counter(), None
        times = self._snapshot_times(epoch)
        losses, hits = torch.zeros(len(self.batches)), torch.zeros(len(self.batches), dtype=torch.long)
        self.model.train()
        for batch, (images, labels) in enumerate(self.batches, start=1):
            losses[batch - 1], hits[batch - 1] = self._step(images, labels)
            due = times.get(batch, [])
            if due and not all([self._snapshot(moment, losses[:batch]) for moment in due]):
                diverged = due[0]
                break
        seen = min(batch * self.config.batch_size, len(self.data.train_labels))
        self._extend_curve(losses[:batch], int(hits.sum()) / seen, started)
        return diverged

    def _snapshot_times(self, epoch: int) -> dict[int, list[float]]:
        """Batch counts of this epoch and the times that fall on them (several, where batches are few)."""
        times: dict[int, list[float]] = {}
        for moment in (*(DEFAULT_TIMES if epoch == 1 else ()), 1.0):
            times.setdefault(batch_of(moment, len(self.batches)), []).append(epoch - 1 + moment)
        return times

    def _step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with self._autocast():
            logits = self.model(images)
        loss = F.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def _snapshot(self, moment: float, losses: Tensor) -> bool:
        """Record the network at a time in epochs; False once a weight or a loss is not finite."""
        snapshot = self.taker.take(moment)
        recent = batch_of(_RECENT, len(self.batches))
        so_far, lately = float(losses.mean()), float(losses[-recent:].mean())  # NaN before the first batch
        self.snapshots.append(replace(snapshot, layers=single_precision(snapshot.layers)))
        self.losses.append((so_far, lately))
        self.layers.append(self.weights.read())
        return snapshot.finite and (moment == 0 or bool(np.isfinite(so_far)))

    def _extend_curve(self, losses: Tensor, train_accuracy: float, started: float) -> None:
        test_loss, test_accuracy = self._test()
        row = (
            float(losses.mean()),
            train_accuracy,
            test_loss,
            test_accuracy,
            self.optimizer.param_groups[0]["lr"],
            time.perf_counter() - started,
        )
        for name, value in zip(CURVES, row, strict=True):
            self.curve[name].append(value)

    @torch.no_grad()
    def _test(self) -> tuple[float, float]:
        """Mean loss and accuracy on the test split."""
        self.model.eval()
        with self._autocast():
            logits = torch.cat([self.model(images) for images in self.test_images.split(_TEST_BATCH)]).float()
        labels = self.data.test_labels
        return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).double().mean())

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bf16")

    def _record(self, diverged: float | None, departures: Sequence[str]) -> RunRecord:
        return RunRecord(
            index=self.config.index,
            config=asdict(self.config) | {"network_options": self.options},
            snapshots=self.snapshots,
            losses=self.losses,
            weights=self.layers,
            curve=self.curve,
            patience_epoch=patience_epoch(self.curve["test_accuracy"], self.config.patience),
            diverged_epoch=diverged,
            reason="all epochs trained" if diverged is None else f"diverged at epoch {diverged:g}",
            seconds=time.perf_counter() - self.started,
            departures=list(departures),
            versions=_versions(),
        )


class WeightStatistics:
    """Reads `WEIGHT_STATISTICS` of every weight with two dimensions or more, per layer."""

    def __init__(self, model: nn.Module) -> None:
        """Keep the first weights, to measure how far each layer has gone."""
        self.parameters = {
            name.removesuffix(".weight"): parameter
            for name, parameter in model.named_parameters()
            if parameter.dim() > 1
        }
        self.first = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def read(self) -> LayerNumbers:
        """Thirteen numbers per layer; NaN where weights are not finite."""
        return single_precision({name: self._layer(name) for name in self.parameters})

    def _layer(self, name: str) -> list[float]:
        weight = self.parameters[name].detach()
        values = weight.flatten().double()
        mean, std = values.mean(), values.std(correction=0)
        scaled = (values - mean) / std
        moments = [values.norm(), mean, std, scaled.pow(3).mean(), scaled.pow(4).mean() - 3]
        quantiles = np.quantile(weight.flatten().numpy(), _QUANTILES).tolist()
        return [float(moment) for moment in moments] + quantiles + [float((weight - self.first[name]).norm())]


def _layout(data: ImageData) -> torch.memory_format:
    """Channels last makes a step with colour images faster; with one channel there is no such layout."""
    return torch.channels_last if data.shape[0] > 1 else torch.contiguous_format


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _versions() -> dict[str, str]:
    try:
        package = metadata.version("lightning-nndyn")
    except metadata.PackageNotFoundError:  # a source tree that was never installed
        package = "source"
    return {
        "record": str(RECORD_VERSION),
        "signature": str(SIGNATURE_VERSION),
        "lightning-nndyn": package,
        "torch": torch.__version__,
    }
