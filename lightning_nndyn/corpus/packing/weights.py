"""The weights of all runs of a stack: one tensor on the device, and a copy on the host that is read from."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_nndyn.corpus.packing.layouts import laid_out, memory_order

_ALIGNMENT = 64  # numbers: each parameter starts at 256 bytes, as if it had been allocated by itself


class StackedWeights:
    """The parameters of alike networks as the rows of `flat`, float [runs, numbers].

    The networks themselves stay on the host, where snapshots are taken: reading a small network is hundreds
    of tiny operations, which a GPU is slower at, and their quantiles are computed on the host anyway. Their
    parameters become views into `host`, which on the CPU is `flat` itself and else a copy that `pull` renews.
    """

    def __init__(self, networks: Sequence[nn.Module], device: torch.device) -> None:
        """Move the networks' parameters into one tensor; the networks go on by the same values."""
        first = dict(networks[0].named_parameters())
        self.layout = {name: (value.shape, memory_order(value)) for name, value in first.items()}
        self.sizes = [value.numel() for value in first.values()]
        self.gaps = [-size % _ALIGNMENT for size in self.sizes]
        pinned = device.type == "cuda"
        self.host = torch.zeros(len(networks), sum(self.sizes) + sum(self.gaps), pin_memory=pinned)
        for row, network in zip(self.host, networks, strict=True):
            self._adopt(row, network)
        self.flat = self.host if device.type == "cpu" else self.host.to(device)
        self.leaf = self.flat.detach().requires_grad_()
        """The same memory, seen by autograd."""

    def named(self, rows: Tensor) -> dict[str, Tensor]:
        """The parameters by name, each [runs, *shape], as differentiable views of [runs, numbers]."""
        with_gaps = [size for pair in zip(self.sizes, self.gaps, strict=True) for size in pair]
        parts = rows.split_with_sizes(with_gaps, dim=1)[::2]
        return {
            name: laid_out(part, shape, order)
            for part, (name, (shape, order)) in zip(parts, self.layout.items(), strict=True)
        }

    def pull(self) -> None:
        """Bring the networks on the host up to date."""
        if self.host is not self.flat:
            self.host.copy_(self.flat)

    @torch.no_grad()
    def _adopt(self, row: Tensor, network: nn.Module) -> None:
        own = {name: value[0] for name, value in self.named(row.unsqueeze(0)).items()}
        for name, parameter in network.named_parameters():
            own[name].copy_(parameter)
            parameter.data = own[name]


def stacked_buffers(networks: Sequence[nn.Module], device: torch.device) -> dict[str, Tensor]:
    """What the networks keep besides parameters, such as running means, by name, each [runs, *shape]."""
    names = [name for name, _ in networks[0].named_buffers()]
    return {
        name: torch.stack([network.get_buffer(name) for network in networks]).to(device) for name in names
    }


def same_parameters(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have parameters of the same names, shapes and dtypes."""

    def shapes(network: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
        return {name: (value.shape, value.dtype) for name, value in network.named_parameters()}

    return shapes(one) == shapes(other)
