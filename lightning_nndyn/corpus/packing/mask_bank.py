"""The dropout masks of the coming steps: drawn ahead on the host, as each run draws them by itself."""

import math
from collections.abc import Sequence
from concurrent.futures import Executor, Future

import torch
from torch import Generator, Tensor

from lightning_nndyn.corpus.packing.dropout import DropoutSite
from lightning_nndyn.corpus.packing.layouts import laid_out

_MOST_BYTES = 1 << 28  # of one chunk
_MOST_STEPS = 32  # in one chunk


class MaskBank:
    """Masks of two chunks of steps on the device: one in use, one on its way.

    On the CPU nn.Dropout draws a mask by `bernoulli_` from torch's global generator, in the order of its
    input's memory, the same numbers for every dtype (and none if it drops nothing or all). How `bernoulli_`
    draws depends on the processor's make, so that nothing but drawing on the host gives the same masks.
    """

    def __init__(
        self,
        sites: Sequence[DropoutSite],
        dropouts: Sequence[Sequence[float]],
        generators: Sequence[Generator],
        batch_sizes: Sequence[int],
        epochs: int,
        device: torch.device,
        workers: Executor,
    ) -> None:
        """Start drawing.

        Args:
            sites: Where masks are needed, in the order in which they are drawn.
            dropouts: Probabilities [runs][sites].
            generators: A random generator for each run, in the state in which its first step finds it.
            batch_sizes: Of all batches of an epoch; the first is the largest.
            epochs: Epochs in which they come.
            device: Where masks are used.
            workers: Threads that draw, a run each.
        """
        self.dropouts, self.generators, self.workers = dropouts, generators, workers
        self.batch_sizes, self.steps = batch_sizes, len(batch_sizes) * epochs
        self.sites = list(sites) if any(p > 0 for own in dropouts for p in own) else []
        self.starts = [0]
        for site in self.sites:
            self.starts.append(self.starts[-1] + batch_sizes[0] * math.prod(site.shape))
        numbers = self.starts[-1] * len(generators)
        self.chunk = max(1, min(_MOST_STEPS, self.steps, _MOST_BYTES // max(numbers, 1)))
        shape = (2, self.chunk, len(generators), self.starts[-1])
        self.host = torch.ones(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self.bank = self.host.to(device)
        self.scales = torch.tensor([[_scale(p) for p in own] for own in dropouts]).to(device)
        self.slot = torch.zeros(1, dtype=torch.long, device=device)
        """The place of the step's masks; the step itself moves it on."""
        self.copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self.copies is not None:
            self.copies.wait_stream(torch.cuda.current_stream(device))
        self.step = 0
        self.uploaded: list[torch.cuda.Event | None] = [None, None]
        self.used: list[torch.cuda.Event | None] = [None, None]
        self.drawing: list[Future[None]] = []
        self._draw_ahead(0)

    def advance(self) -> None:
        """A step is about to be launched: see to it that its masks are there."""
        if self.sites and self.step % self.chunk == 0:
            self._upload(self.step // self.chunk % 2)
            self._draw_ahead(self.step + self.chunk)
        self.step += 1

    def masks(self, batch_size: int) -> list[tuple[Tensor, Tensor]]:
        """For each site the masks of the step at `slot`, [runs, batch, ...], and the scales [runs]."""
        rows = self.bank.flatten(0, 1).index_select(0, self.slot)[0]
        sizes = [batch_size * math.prod(site.shape) for site in self.sites]
        return [
            (rows[:, start : start + size].unflatten(1, (batch_size, *site.shape)), self.scales[:, place])
            for place, (site, start, size) in enumerate(zip(self.sites, self.starts, sizes, strict=False))
        ]

    def next_slot(self) -> None:
        """Part of the step: the next one's masks are to follow."""
        self.slot.add_(1).remainder_(2 * self.chunk)

    def _upload(self, half: int) -> None:
        """Copy a chunk to the device beside the steps that use the other half; on the CPU it is there."""
        for drawn in self.drawing:
            drawn.result()
        if self.copies is None:
            return
        steps = torch.cuda.current_stream(self.bank.device)
        self.used[1 - half] = steps.record_event()
        before = self.used[half]
        if before is not None:
            self.copies.wait_event(before)
        with torch.cuda.stream(self.copies):
            self.bank[half].copy_(self.host[half], non_blocking=True)
            uploaded = self.copies.record_event()
        steps.wait_event(uploaded)
        self.uploaded[half] = uploaded

    def _draw_ahead(self, first: int) -> None:
        """Have the chunk drawn that starts with step `first`."""
        if not self.sites or first >= self.steps:
            return
        half = first // self.chunk % 2
        uploaded = self.uploaded[half]
        if uploaded is not None:
            uploaded.synchronize()
        self.drawing = [
            self.workers.submit(self._draw, run, first, half) for run in range(len(self.generators))
        ]

    def _draw(self, run: int, first: int, half: int) -> None:
        for step in range(first, min(first + self.chunk, self.steps)):
            batch_size = self.batch_sizes[step % len(self.batch_sizes)]
            numbers = self.host[half, step - first, run]
            for site, start, p in zip(self.sites, self.starts, self.dropouts[run], strict=False):
                if 0 < p < 1:
                    size = batch_size * math.prod(site.shape)
                    draw_mask(numbers[start : start + size], batch_size, site, p, self.generators[run])


def draw_mask(into: Tensor, batch_size: int, site: DropoutSite, dropout: float, generator: Generator) -> None:
    """Fill uint8 [n] with the mask, in the order of its dimensions, that nn.Dropout on the CPU would draw."""
    shape = (batch_size, *site.shape)
    if site.order == tuple(range(len(shape))):
        into.bernoulli_(1 - dropout, generator=generator)
    else:
        drawn = laid_out(torch.empty_like(into), shape, site.order)
        into.view(shape).copy_(drawn.bernoulli_(1 - dropout, generator=generator))


def _scale(dropout: float) -> float:
    """What is left is divided by its probability, as nn.Dropout does it: in float32."""
    return 0.0 if dropout == 1 else float(torch.ones(()).div_(1 - dropout))
