"""The plans of an epoch of several runs on the device, drawn ahead on the host."""

from collections.abc import Sequence
from concurrent.futures import Executor, Future

import torch
from torch import Tensor

from lightning_nndyn.corpus.training.batches import EpochPlan, EpochPlanner


class StackedPlans:
    """One epoch's plan after the other; the parts [runs, images] lie in the same memory for all epochs."""

    def __init__(
        self, planners: Sequence[EpochPlanner], epochs: int, device: torch.device, workers: Executor
    ) -> None:
        """Start drawing the first epoch's plans, a run in each thread of `workers`."""
        self.planners, self.epochs, self.workers = planners, epochs, workers
        shape = (len(planners), planners[0].images)
        kinds = (torch.int32, torch.uint8, torch.uint8, torch.bool)
        if planners[0].config.crop_padding > _MOST_PADDING:
            kinds = (torch.int32, torch.int32, torch.int32, torch.bool)
        self.plan = EpochPlan(*(torch.zeros(shape, dtype=kind, device=device) for kind in kinds))
        self.drawing: list[Future[EpochPlan]] = []
        self._draw_ahead()

    def advance(self) -> None:
        """The next epoch begins."""
        drawn = [future.result() for future in self.drawing]
        for part, parts in zip(self.plan, zip(*drawn, strict=True), strict=True):
            part.copy_(torch.stack(parts).to(part.dtype))
        self._draw_ahead()

    def batch(self, places: Tensor) -> EpochPlan:
        """The part of the plan at these places [batch] of the epoch, each part [runs, batch]."""
        return EpochPlan(*(part.index_select(1, places) for part in self.plan))

    def _draw_ahead(self) -> None:
        self.epochs -= 1
        if self.epochs >= 0:
            self.drawing = [self.workers.submit(planner.draw) for planner in self.planners]


_MOST_PADDING = 127  # twice that is the last corner a byte can hold
