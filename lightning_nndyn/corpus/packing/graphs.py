"""Work that is the same every time: on a GPU recorded once and launched as a whole."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_WARM_UPS = 3  # what libraries set up at first use must not be recorded; torch's advice for its graphs


class Replay:
    """Calls a function, by a CUDA graph from the first call on.

    The function must read and write the same memory each time and never look at a number on the host.
    """

    def __init__(self, work: Callable[[], None], state: Sequence[Tensor], pool: Any) -> None:
        """Nothing is run or recorded yet.

        Args:
            work: The function.
            state: All tensors that it changes and that outlive it: what trial runs do to them is undone.
            pool: Of the graphs' memory, shared by graphs that are never replayed at the same time, see
                `torch.cuda.graph_pool_handle`; calls must then come with a stream of their own set. None to
                call the function itself, on the CPU or to compare.
        """
        self.work, self.state, self.pool = work, state, pool
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Do the work."""
        if self.pool is None:
            self.work()
            return
        if self.graph is None:
            self.graph = self._record()
        self.graph.replay()

    def _record(self) -> torch.cuda.CUDAGraph:
        kept = [tensor.detach().clone() for tensor in self.state]
        for _ in range(_WARM_UPS):
            self.work()
            self._put_back(kept)  # at once: a counter must not run past the end
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=torch.cuda.current_stream()):
            self.work()
        return graph

    @torch.no_grad()
    def _put_back(self, kept: Sequence[Tensor]) -> None:
        for tensor, before in zip(self.state, kept, strict=True):
            tensor.copy_(before)
