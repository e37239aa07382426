"""Trains one run: a plain loop, the whole data set in memory, one thread."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.storage.record import RunRecord
from lightning_nndyn.corpus.training.arrays import ArrayData, ArrayLoader, RunData, test_inputs
from lightning_nndyn.corpus.training.batches import BatchLoader
from lightning_nndyn.corpus.training.environment import checked_device, full_precision, one_thread, seeded
from lightning_nndyn.corpus.training.network import layout
from lightning_nndyn.corpus.training.optimizers import make_optimizer
from lightning_nndyn.corpus.training.recorder import Observer, RunRecorder, empty_record
from lightning_nndyn.corpus.training.run_data import data_of_run
from lightning_nndyn.corpus.training.schedules import learning_rate_factor
from lightning_nndyn.errors import CorpusError

_TEST_BATCH = 500


def train_run(
    config: RunConfig,
    data: RunData,
    departures: Sequence[str] = (),
    *,
    device: str = "cpu",
    observer: Observer | None = None,
    until: int | None = None,
) -> RunRecord:
    """Train one run on one thread and return its record; the same arguments give the same record.

    A run that raises gives a record too, with the error as its reason. The caller's random state and number
    of threads are left as they were.

    Args:
        config: The run.
        data: All of its data set, on the CPU. On another device images are kept as uint8 and normalised batch
            by batch.
        departures: From the paper's protocol, in words, for the record.
        device: "cpu", "cuda", "cuda:1", ... Initial weights, batches, crops and flips are drawn on the CPU
            and are the same on each device; dropout is drawn on the device.
        observer: Called at each snapshot with the network.
        until: The epoch after which to stop, although more are planned; None for the planned end.

    Raises:
        CorpusError: A setting of the run, or the machine, lets no run be trained.
    """
    target = checked_device(device)
    with one_thread(), seeded(config.seed, target), full_precision(target):
        data = data_of_run(config, data)
        try:
            data = data.to(target)
            batches = ArrayLoader(config, data) if isinstance(data, ArrayData) else BatchLoader(config, data)
            recorder = RunRecorder(config, data, len(batches), observer)
        except Exception as error:
            return empty_record(config, data, departures, failure_message(error))
        try:
            _Trainer(recorder, batches).train(until)
        except Exception as error:
            return recorder.record(departures, failure_message(error))
        return recorder.record(departures)


def failure_message(error: Exception) -> str:
    """The reason in the record of a run that raised an error.

    Raises:
        CorpusError: The error is not the run's fault and stops the corpus: a CorpusError, or memory has run
            out.
    """
    if isinstance(error, CorpusError):
        raise error
    if _out_of_memory(error):
        raise CorpusError(f"memory has run out ({error}): train fewer runs at a time") from error
    return f"{type(error).__name__}: {error}"


def _out_of_memory(error: Exception) -> bool:
    # cuDNN and cuBLAS raise a plain RuntimeError such as CUBLAS_STATUS_ALLOC_FAILED.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "_ALLOC_FAILED" in str(error)


class _Trainer:
    """The training loop of one run."""

    def __init__(self, recorder: RunRecorder, batches: BatchLoader | ArrayLoader) -> None:
        self.recorder, self.batches = recorder, batches
        self.config, self.data, self.model = recorder.config, recorder.data, recorder.model
        self.optimizer = make_optimizer(self.config, self.model.parameters())
        self.test_inputs = test_inputs(self.data).contiguous(memory_format=layout(self.data))
        self.steps = 0

    def train(self, until: int | None = None) -> None:
        """Train to the last epoch, or to an earlier one, or until the run diverges."""
        self.recorder.snapshot(0.0, torch.empty(0))
        for epoch in range(1, (until or self.config.epochs) + 1):
            self._epoch(epoch)
            if self.recorder.diverged is not None:
                return

    def _epoch(self, epoch: int) -> None:
        started = time.perf_counter()
        times = self.recorder.snapshot_times(epoch)
        # On the device, so that a step does not wait for the previous one's loss.
        losses = torch.zeros(len(self.batches), device=self.data.device)
        hits = torch.zeros_like(losses, dtype=torch.long)
        self.model.train()
        for batch, (inputs, labels) in enumerate(self.batches, start=1):
            losses[batch - 1], hits[batch - 1] = self._step(inputs, labels)
            if not all([self.recorder.snapshot(moment, losses[:batch]) for moment in times.get(batch, [])]):
                break
        seen = min(batch * self.config.batch_size, len(self.data.train_labels))
        test_loss, test_accuracy = self._test()
        self.recorder.end_epoch(
            train_loss=float(losses[:batch].mean()),
            train_accuracy=int(hits.sum()) / seen,
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            learning_rate=self.optimizer.param_groups[0]["lr"],  # of the last step
            seconds=time.perf_counter() - started,
        )

    def _step(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with self._autocast():
            logits = self.model(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.config.label_smoothing)
        self._schedule()
        self.optimizer.zero_grad()
        loss.backward()
        if self.config.gradient_clip is not None:
            clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def _schedule(self) -> None:
        progress = self.steps / (self.config.epochs * len(self.batches))
        factor = learning_rate_factor(self.config, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        self.steps += 1

    @torch.no_grad()
    def _test(self) -> tuple[float, float]:
        """Mean loss and accuracy on the test split."""
        self.model.eval()
        with self._autocast():
            parts = map(self.data.normalise, self.test_inputs.split(_TEST_BATCH))
            logits = torch.cat([self.model(inputs) for inputs in parts]).float()
        labels = self.data.test_labels
        return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).double().mean())

    def _autocast(self) -> torch.autocast:
        bf16 = self.config.precision == "bf16"
        return torch.autocast(self.data.device.type, torch.bfloat16, enabled=bf16)
