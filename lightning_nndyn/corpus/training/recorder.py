"""Records a training run: builds its network, takes its snapshots, keeps its curves and weight statistics."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
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
from lightning_nndyn.corpus.training.arrays import RunData, test_inputs
from lightning_nndyn.corpus.training.network import build_network, network_options
from lightning_nndyn.corpus.training.schedules import learning_rate_factor
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.tracing.forward import call_model, side_effect_free
from lightning_nndyn.graph.tracing.tracer import LayerTracer, rolled_graph
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES, SIGNATURE_VERSION, Snapshot, batch_of

Observer = Callable[[nn.Module, Tensor, float], None]
"""Is given the network, an example input and the time in epochs; it must not change the network."""

_RECENT = 1 / 16  # of an epoch: the window of the recent training loss
_QUANTILES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)  # of the weights of a layer


class RunRecorder:
    """The network of a run, and what is recorded of it. It trains nothing: see `training.train`."""

    def __init__(
        self, config: RunConfig, data: RunData, batches: int, observer: Observer | None = None
    ) -> None:
        """Build the network from torch's global random state, and trace its graph.

        Args:
            config: The run's settings.
            data: Its part of a data set, see `data_of_run`; the network is moved to the data's device.
            batches: Batches in an epoch.
            observer: Called at each snapshot.

        Raises:
            TracingError: The network has no rolled graph.
        """
        self.config, self.data, self.batches = config, data, batches
        self.started = time.perf_counter()
        self.model: nn.Module = build_network(config, data).to(data.device)
        example = data.normalise(test_inputs(data)[:2])
        self.observer, self.example = observer, example
        self.chain_reader, self.flow_reader = _readers(self.model, example, bool(config.family))
        self.weights = WeightStatistics(self.model)
        self.snapshots: list[Snapshot] = []
        self.flow: list[Snapshot] = []
        self.schedule: list[tuple[float, float]] = []
        self.losses: list[tuple[float, float]] = []
        self.layers: list[LayerNumbers] = []
        self.curve: dict[str, list[float]] = {name: [] for name in CURVES}
        self.diverged: float | None = None

    def snapshot_times(self, epoch: int) -> dict[int, list[float]]:
        """Snapshot times of an epoch, by the number of batches before them; several if batches are few."""
        times: dict[int, list[float]] = {}
        for fraction in (*(DEFAULT_TIMES if epoch == 1 else ()), 1.0):
            times.setdefault(batch_of(fraction, self.batches), []).append(epoch - 1 + fraction)
        return times

    def snapshot(self, epoch: float, losses: Tensor) -> bool:
        """Record a snapshot; returns False once a weight or a loss is not finite.

        Args:
            epoch: Time of the snapshot, in epochs.
            losses: Of all batches of the epoch so far, [batches]; empty before the first one.
        """
        raw = self.config.raw_epochs is None or epoch <= self.config.raw_epochs
        recent = batch_of(_RECENT, self.batches)
        so_far, lately = float(losses.mean()), float(losses[-recent:].mean())  # NaN before the first batch
        self.snapshots.append(replace(_kept(self.chain_reader.read(epoch), raw), topology="chain"))
        if self.flow_reader is not None:
            self.flow.append(_kept(self.flow_reader.read(epoch), raw))
        if self.observer is not None:
            self.observer(self.model, self.example, epoch)
        self.losses.append((so_far, lately))
        self.layers.append(self.weights.read() if raw else {})
        self.schedule.append(self._schedule_at(epoch))
        finite = all(taken[-1].finite for taken in (self.snapshots, self.flow) if taken)
        if self.diverged is None and not (finite and (epoch == 0 or np.isfinite(so_far))):
            self.diverged = epoch
        return self.diverged is None

    def _schedule_at(self, epoch: float) -> tuple[float, float]:
        """The schedule's factor of the learning rate, and the share of all steps that have been trained."""
        epochs, part = divmod(epoch, 1)
        batches = epochs * self.batches + (batch_of(part, self.batches) if part else 0)
        progress = batches / (self.batches * self.config.epochs)
        return learning_rate_factor(self.config, progress), progress

    def end_epoch(self, **values: float) -> None:
        """Add an epoch to the learning curves, a value for each of `CURVES`."""
        for name in CURVES:
            self.curve[name].append(values[name])

    def record(self, departures: Sequence[str], failure: str | None = None) -> RunRecord:
        """The record of the run; `failure` is the error that ended it, if any."""
        record = empty_record(self.config, self.data, departures)
        return replace(
            record,
            snapshots=self.snapshots,
            losses=self.losses,
            weights=self.layers,
            flow=self.flow,
            schedule=self.schedule,
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


def _readers(model: nn.Module, example: Tensor, both: bool) -> tuple[SnapshotReader, SnapshotReader | None]:
    """Readers of the chain and of the data flow; None for the latter unless wanted and different."""
    if not both:
        return SnapshotReader(rolled_graph(model, example), per_layer=True), None
    chain, flow = chain_and_flow(model, example)
    same = (chain.num_nodes, chain.num_edges) == (flow.num_nodes, flow.num_edges)
    return SnapshotReader(chain, per_layer=True), None if same else SnapshotReader(flow, per_layer=True)


def chain_and_flow(model: nn.Module, example: Tensor) -> tuple[RolledGraph, RolledGraph]:
    """The rolled graphs of a network's chain and of its data flow, from one forward pass in evaluation mode.

    Raises:
        TracingError: No layer was called, or the data flow cannot be followed.
    """
    tracer = LayerTracer(model, topology="dataflow")
    with side_effect_free(model), tracer:
        call_model(model, example)
    return tracer.graph("chain"), tracer.graph()


def _kept(snapshot: Snapshot, raw: bool) -> Snapshot:
    """The recorded part of a snapshot: no distances, as `RunRecord.weights` has them exactly."""
    layers = single_precision(snapshot.layers) if raw else {}
    return replace(snapshot, layers=layers, distances=())


def empty_record(
    config: RunConfig, data: RunData, departures: Sequence[str], failure: str | None = None
) -> RunRecord:
    """The record of a run that could not start, and what every other record is made from."""
    return RunRecord(
        index=config.index,
        config=asdict(config) | {"network_options": network_options(config, data), "guess": guess(data)},
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


def guess(data: RunData) -> float:
    """The accuracy of guessing: the share of the test split's most frequent class."""
    return int(data.test_labels.bincount().max()) / len(data.test_labels)


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


class WeightStatistics:
    """Reads `WEIGHT_STATISTICS` of every weight with two dimensions or more, per layer."""

    def __init__(self, model: nn.Module) -> None:
        """Keep the initial weights, for the distance from them."""
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
        quantiles = np.quantile(weight.flatten().cpu().numpy(), _QUANTILES).tolist()
        return [float(moment) for moment in moments] + quantiles + [float((weight - self.first[name]).norm())]
