"""The signature, version 2: relative, bounded, and the same length for every network."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lightning_nndyn import models
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.graph.tracing.tracer import rolled_graph
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.relative import graph_movement, movement_names
from lightning_nndyn.signature.snapshot import Snapshot

IMAGES = torch.zeros(2, 3, 32, 32)


def trained(network: nn.Module, steps: tuple[float, ...]) -> tuple[list[Snapshot], list[list[float]]]:
    """Snapshots of a network whose weights take random steps of the given sizes, and how far they went."""
    torch.manual_seed(0)
    reader = SnapshotReader(rolled_graph(network, IMAGES), per_layer=True)
    weights = [weight for weight in network.parameters() if weight.dim() > 1]
    start = [weight.detach().clone() for weight in weights]
    history, distances = [reader.read(0.0)], [[0.0] * len(weights)]
    for epoch, size in enumerate(steps, start=1):
        with torch.no_grad():
            for weight in weights:
                weight.add_(size * weight.std() * torch.randn_like(weight))
        history.append(reader.read(float(epoch)))
        pairs = zip(weights, start, strict=True)
        distances.append([float((now.detach() - then).norm() / then.norm()) for now, then in pairs])
    return history, distances


def named(history: list[Snapshot], distances: list[list[float]]) -> dict[str, float]:
    return dict(zip(movement_names(), graph_movement(history, distances), strict=True))


def test_every_network_gives_as_many_numbers() -> None:
    found = [graph_movement(*trained(make(), (0.1, 0.1))) for make in (models.lenet5, models.resnet32)]
    assert found[0].shape == found[1].shape == (len(movement_names()),)
    assert len(set(movement_names())) == len(movement_names())
    assert all(np.isfinite(row).all() for row in found)


def test_a_network_that_stands_still_has_moved_by_nothing() -> None:
    found = named(*trained(models.lenet5(), (0.0,)))
    signed = [value for name, value in found.items() if ":signed:" in name]
    assert signed == pytest.approx([0.0] * len(signed), abs=1e-4)
    sizes = [value for name, value in found.items() if ":size:" in name and ":std:" not in name]
    assert max(sizes) < math.log(1e-4)


def test_larger_steps_move_further() -> None:
    small, large = (named(*trained(models.lenet5(), (size,))) for size in (0.01, 0.3))
    for name in ("distance:mean:size:start", "frobenius:mean:size:start", "eigenvalue:size:start"):
        assert large[name] > small[name] + 1
    assert large["degree_mean:mean:signed:start"] > 0  # noise makes norms larger


def test_since_the_start_and_since_the_last_snapshot_differ() -> None:
    found = named(*trained(models.lenet5(), (0.3, 0.01)))
    assert found["frobenius:mean:size:start"] > found["frobenius:mean:size:last"] + 1
    once = named(*trained(models.lenet5(), (0.3,)))  # the last snapshot is the first
    later = [name for name in once if name.endswith(":last")]
    assert len(later) > 80 and all(once[name] == once[name.removesuffix("last") + "start"] for name in later)


def test_scaling_all_weights_of_both_snapshots_changes_nothing() -> None:
    """What is compared layer by layer is a ratio; only the ten statistics know the scale."""
    found = []
    for scale in (1, 8):
        torch.manual_seed(1)
        network = models.lenet5()
        with torch.no_grad():
            for weight in network.parameters():
                weight.mul_(scale)
        found.append(named(*trained(network, (0.1,))))
    ratios = [name for name in found[0] if name.count(":") == 3]
    assert len(ratios) == 7 * 2 * (7 + 5)
    for name in ratios:
        assert found[1][name] == pytest.approx(found[0][name], abs=2e-3), name


def test_an_exploding_network_is_bounded() -> None:
    history, distances = trained(models.lenet5(), (1e12,))
    found = graph_movement(history, distances)
    assert np.isfinite(found).all() and np.abs(found).max() <= 50


def test_what_cannot_be_compared_is_refused() -> None:
    history, distances = trained(models.lenet5(), (0.1,))
    with pytest.raises(PredictorError, match="got 1 snapshots and 1 rows"):
        graph_movement(history[:1], distances[:1])
    with pytest.raises(PredictorError, match="got 2 snapshots and 1 rows"):
        graph_movement(history, distances[:1])
    with pytest.raises(PredictorError, match="epoch 1 has no numbers per layer"):
        graph_movement([history[0], replace(history[1], layers={})], distances)
    broken = replace(history[1], statistics=(math.nan,) * 10)
    with pytest.raises(PredictorError, match="epoch 1 is not finite"):
        graph_movement([history[0], broken], distances)
