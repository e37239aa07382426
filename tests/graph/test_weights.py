"""Weights that hooks compute: weight norm, spectral norm, pruning."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from lightning_nndyn import models
from lightning_nndyn.graph.tracing.tracer import rolled_graph
from lightning_nndyn.signature.reader import SnapshotReader


def pruned(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", 0.3)  # type: ignore[no-untyped-call]


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("how", [nn.utils.weight_norm, nn.utils.spectral_norm, pruned])
def test_weights_that_a_hook_computes_are_read_as_the_next_pass_has_them(how: Any) -> None:
    """Until then the module holds those from before the last step."""
    torch.manual_seed(0)
    network = models.lenet5()
    for layer in network:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            how(layer)
    network.eval()  # spectral norm estimates once more in each pass of training
    image = torch.zeros(1, 3, 32, 32)
    reader = SnapshotReader(rolled_graph(network, image), per_layer=True)
    reader.read(0.0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    early = reader.read(1.0)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    assert min(early.distances) > 0
    network(image)
    late = reader.read(1.0)
    assert early.distances == pytest.approx(late.distances)
    assert early.statistics == pytest.approx(late.statistics)
