"""Runs that share their kernels: the device's side of their training."""

from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional as F

from lightning_nndyn.corpus.convolutions import replace_convolutions
from lightning_nndyn.corpus.packing.convolutions import ProductConv2d
from lightning_nndyn.corpus.packing.dropout import probabilities, with_masks
from lightning_nndyn.corpus.packing.graphs import Replay
from lightning_nndyn.corpus.packing.mask_bank import MaskBank
from lightning_nndyn.corpus.packing.optimizers import stacked_optimizer
from lightning_nndyn.corpus.packing.pictures import Pictures
from lightning_nndyn.corpus.packing.plans import StackedPlans
from lightning_nndyn.corpus.packing.weights import StackedWeights, same_parameters, stacked_buffers
from lightning_nndyn.corpus.training.batches import EpochPlanner
from lightning_nndyn.corpus.training.recorder import Run
from lightning_nndyn.errors import CorpusError

_TEST_BATCH = 500
_STACKED_IMAGES = 5  # dimensions


class Stack:
    """Networks of the same shape, trained by one step: each kernel works for all of them.

    The step reads its batch, masks and learning rates at the place a counter on the device says, and writes
    its losses there: it is the same step every time, so that it can be recorded as a CUDA graph. A run cannot
    disturb another: no kernel but the loss's sum, whose gradient is one, adds up over runs.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        generators: Sequence[torch.Generator],
        pictures: Pictures,
        workers: Executor,
        *,
        products: bool = False,
        recorded: bool = True,
    ) -> None:
        """Bring the runs' networks to the device.

        Args:
            runs: Not started; their networks' parameters are moved, see `StackedWeights`.
            generators: The random state of each run, from which its dropout masks are drawn.
            pictures: What they are trained on.
            workers: Threads that draw masks and plans.
            products: Compute convolutions as matrix products.
            recorded: On a CUDA device, launch the step as a CUDA graph.

        Raises:
            CorpusError: The runs' networks differ.
        """
        self.runs, self.pictures, self.device = runs, pictures, pictures.device
        self.config, self.batches = runs[0].config, runs[0].batches
        self.stream = None
        if self.device.type == "cuda":
            self.stream = torch.cuda.Stream(self.device)
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
        images = len(pictures.labels)
        whole, rest = divmod(images, self.config.batch_size)
        self.batch_sizes = [self.config.batch_size] * whole + [rest] * (rest > 0)
        _check_networks(runs)
        with self.lane():
            self._bring(generators, workers, products)
        pool = torch.cuda.graph_pool_handle() if self.stream is not None and recorded else None
        self.replays = {size: self._replay(size, pool) for size in set(self.batch_sizes)}

    def _bring(self, generators: Sequence[torch.Generator], workers: Executor, products: bool) -> None:
        configs, networks = [run.config for run in self.runs], [run.model for run in self.runs]
        epochs = self.config.epochs
        network, self.feed = with_masks(networks[0], self._examples(), self._precision())
        dropouts = [probabilities(network, self.feed.sites) for network in networks]
        if products:
            replace_convolutions(network, ProductConv2d)
        self.network = network.to("meta")  # its values are never used
        self.weights = StackedWeights(networks, self.device)
        self.buffers = stacked_buffers(networks, self.device)
        self.optimizer = stacked_optimizer(configs, epochs * self.batches, self.weights.flat)
        planners = [EpochPlanner(config, len(self.pictures.labels)) for config in configs]
        self.plans = StackedPlans(planners, epochs, self.device, workers)
        self.bank = MaskBank(
            self.feed.sites, dropouts, generators, self.batch_sizes, epochs, self.device, workers
        )
        self.factors = self._factors(1)
        self.losses = torch.zeros(len(self.runs), self.batches, device=self.device)
        self.hits = torch.zeros(len(self.runs), self.batches, dtype=torch.long, device=self.device)
        self.counter = torch.zeros(1, dtype=torch.long, device=self.device)

    def lane(self) -> AbstractContextManager[object]:
        """All that a stack does goes through a stream of its own."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def begin_epoch(self, epoch: int) -> None:
        """Bring the plans and the learning rates of an epoch, counted from 1."""
        self.network.train()
        with self.lane():
            self.plans.advance()
            self.factors.copy_(self._factors(epoch))
            self.losses.zero_()
            self.hits.zero_()
            self.counter.zero_()

    def step(self, batch: int) -> None:
        """Train all runs on the batch, counted from 0, that comes next; on a GPU this does not wait."""
        with self.lane():
            self.bank.advance()
            self.replays[self.batch_sizes[batch]]()

    def numbers(self) -> tuple[Tensor, Tensor]:
        """Losses, float, and hits of the epoch's batches so far, [runs, batches], on the host."""
        with self.lane():
            return self.losses.cpu(), self.hits.cpu()

    def pull(self) -> None:
        """Bring the runs' networks up to date."""
        with self.lane():
            self.weights.pull()

    @torch.no_grad()
    def test(self) -> None:
        """Start the evaluation of all runs on the test split; on a GPU this does not wait."""
        self.network.eval()
        labels = self.pictures.test_labels
        with self.lane():
            parts = self.pictures.test_images.split(_TEST_BATCH)
            logits = torch.cat([self._tested(images) for images in parts], dim=1)
            loss = _cross_entropies(logits, labels.expand(len(self.runs), -1)).mean(1)
            accuracy = (logits.argmax(2) == labels).double().mean(1)
            self.results = torch.stack((loss.double(), accuracy), dim=1)
        self.network.train()

    def test_results(self) -> list[list[float]]:
        """Mean loss and accuracy of each run, from the last `test`."""
        with self.lane():
            return self.results.tolist()

    def close(self) -> None:
        """Let go of the recorded steps, and so of the device's memory; they and the stack hold each other."""
        self.replays.clear()

    def _tested(self, images: Tensor) -> Tensor:
        inputs = self.pictures.data.normalise(images)
        return self._logits(self.weights.flat, inputs, [])

    def _replay(self, size: int, pool: Any) -> Replay:
        state = [self.weights.flat, *self.optimizer.state, *self.buffers.values(), self.losses, self.hits]
        return Replay(lambda: self._step(size), [*state, self.counter, self.bank.slot], pool)

    def _step(self, size: int) -> None:
        places = self.counter * self.config.batch_size + torch.arange(size, device=self.device)
        images, labels = self.pictures.batch(self.plans.batch(places))
        logits = self._logits(self.weights.leaf, images, self.bank.masks(size))
        loss = _cross_entropies(logits, labels).mean(1)
        (gradient,) = torch.autograd.grad(loss.sum(), self.weights.leaf)
        with torch.no_grad():
            factors = self.factors.index_select(0, self.counter)[0]
            self.optimizer.update(self.weights.flat, gradient, factors)
            self.losses.index_copy_(1, self.counter, loss.detach().unsqueeze(1))
            self.hits.index_copy_(1, self.counter, (logits.argmax(2) == labels).sum(1, keepdim=True))
            self.counter.add_(1)
            self.bank.next_slot()

    def _logits(self, weights: Tensor, images: Tensor, masks: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Float [runs, batch, classes] of images [runs, batch, ...], or [batch, ...] for all runs."""
        precision, named = self._precision(), self.weights.named(weights)
        per_run = 0 if images.dim() == _STACKED_IMAGES else None
        with torch.autocast(self.device.type, precision, enabled=precision is not None):
            if len(self.runs) > 1:
                forward = vmap(self._forward, in_dims=(0, 0, per_run, 0))
                return forward(named, self.buffers, images, list(masks)).float()
            own = images if per_run is None else images[0]
            given = [(mask[0], scale[0]) for mask, scale in masks]
            return self._forward(_first(named), _first(self.buffers), own, given).float().unsqueeze(0)

    def _forward(
        self,
        weights: dict[str, Tensor],
        buffers: dict[str, Tensor],
        images: Tensor,
        masks: Sequence[tuple[Tensor, Tensor]],
    ) -> Tensor:
        self.feed.begin(masks)
        logits: Tensor = functional_call(self.network, (weights, buffers), (images,))
        return logits

    def _factors(self, epoch: int) -> Tensor:
        """The optimizer's, of an epoch's steps, [batches, runs, k]."""
        steps = range((epoch - 1) * self.batches, epoch * self.batches)
        return self.optimizer.factors(steps).float().to(self.device)

    def _examples(self) -> Tensor:
        """Two training images on the host, laid out as `BatchLoader` does."""
        data = self.pictures.data
        images = data.train_images[:2].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        return data.normalise(images)

    def _precision(self) -> torch.dtype | None:
        return torch.bfloat16 if self.config.precision == "bf16" else None


def _first(stacked: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: values[0] for name, values in stacked.items()}


def _cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Of each image: [runs, batch] from [runs, batch, classes]."""
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(labels.shape)


def _check_networks(runs: Sequence[Run]) -> None:
    for run in runs[1:]:
        if not same_parameters(runs[0].model, run.model):
            raise CorpusError(
                f"run {run.config.index} has other layers than run {runs[0].config.index}: "
                "train them side by side, mode='side-by-side'"
            )
