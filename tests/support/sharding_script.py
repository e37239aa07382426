"""Shards networks over processes and writes what each process reads, for test_sharding.py."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from processes import leave_group
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
from torch.distributed.fsdp.wrap import CustomPolicy
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from lightning_nndyn.corpus.models import lenet5
from lightning_nndyn.graph.tracing.tracer import LayerTracer
from lightning_nndyn.signature.reader import SnapshotReader

try:
    from torch.distributed.fsdp import fully_shard
except ImportError:  # torch 2.5
    from torch.distributed._composable.fsdp import fully_shard

FOLDER, RANK, SIZE = Path(sys.argv[1]), int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])
ON_GPUS = torch.cuda.device_count() >= SIZE
DEVICE = torch.device("cuda", RANK) if ON_GPUS else torch.device("cpu")


LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)  # not attention's own output projection, which it never calls


class Block(nn.Module):
    """A transformer's, with a depthwise convolution, a grouped one and a tied weight beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(5, 12, 3, padding=1, groups=1)
        self.depthwise = nn.Conv1d(12, 12, 3, padding=1, groups=12)
        self.grouped = nn.Conv1d(12, 12, 1, groups=3)
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.up, self.down = nn.Linear(12, 30), nn.Linear(30, 12)
        self.back = nn.ConvTranspose1d(12, 5, 2)
        self.own = nn.Parameter(torch.randn(12, 12) / 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.depthwise(self.first(x)).relu()).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = x + self.down(torch.cat((self.up(x)[..., :10], self.up(x)[..., 10:]), -1).relu())
        return self.back((x @ self.own).transpose(1, 2))


def fsdp2(model: nn.Module) -> nn.Module:
    for child in model.modules():
        if type(child) in LAYERS and child.weight.shape[0] > 10:
            fully_shard(child)
    fully_shard(model)
    return model


def hybrid(model: nn.Module) -> nn.Module:
    """Replicated over half of the processes."""
    mesh = init_device_mesh(DEVICE.type, (2, SIZE // 2), mesh_dim_names=("copies", "parts"))
    fully_shard(model, mesh=mesh)
    return model


def flat(original: bool, wrapped: bool = True, **settings: Any) -> Callable[[nn.Module], nn.Module]:
    policy = CustomPolicy(lambda module: type(module) in LAYERS) if wrapped else None

    def shard(model: nn.Module) -> nn.Module:
        return FullyShardedDataParallel(
            model, auto_wrap_policy=policy, use_orig_params=original, device_id=DEVICE, **settings
        )

    return shard


def tensor_parallel(model: nn.Module) -> nn.Module:
    mesh = init_device_mesh(DEVICE.type, (SIZE,))
    return parallelize_module(model, mesh, {"1": ColwiseParallel(), "3": RowwiseParallel()})


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 24), nn.ReLU(), nn.Linear(24, 10)
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "lenet": (lambda: lenet5(in_channels=1, image_size=8), (2, 1, 8, 8), "chain"),
    "lenet, dataflow": (lambda: lenet5(in_channels=1, image_size=8), (2, 1, 8, 8), "dataflow"),
    "block": (Block, (2, 5, 7), "dataflow"),
    "perceptron": (perceptron, (2, 1, 8, 8), "chain"),
}
WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "whole": lambda model: model,
    "fsdp2": fsdp2,
    "hybrid": hybrid,
    "flat": flat(False),
    "flat, original": flat(True),
    "flat, one unit": flat(True, wrapped=False),
    "flat, not cut": flat(True, sharding_strategy=ShardingStrategy.NO_SHARD),
    "flat, gradients": flat(True, sharding_strategy=ShardingStrategy.SHARD_GRAD_OP),
    "tensor parallel": tensor_parallel,
}


def watch(network: str, way: str) -> dict[str, Any]:
    build, shape, topology = NETWORKS[network]
    torch.manual_seed(0)
    model = WAYS[way](build().to(DEVICE))
    torch.manual_seed(1)
    x = torch.randn(shape).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with LayerTracer(model, topology=topology) as tracer:
        loss = model(x).square().mean()
    graph = tracer.graph()  # between the passes, as the callback does
    taker = SnapshotReader(graph, per_layer=True)
    found = [taker.read(0.0)]
    loss.backward()
    optimizer.step()
    found.append(taker.read(1.0))
    again = SnapshotReader(graph, per_layer=True, first_weights=taker.first_weights)
    found.append(again.read(1.0))
    return {
        "snapshots": [snapshot.to_dict() for snapshot in found],
        "left_out": graph.left_out,
        "edges_here": graph.distinct_weights.numel(),
        "sharded": graph.collective is not None,
    }


class Wayward(nn.Module):
    """Process 1 leaves a layer out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x if RANK == 1 else self.middle(x))


def differ() -> dict[str, Any]:
    """What becomes of a graph that is not the same on all processes."""
    model = Wayward().to(DEVICE)
    fully_shard(model)
    with LayerTracer(model) as tracer:
        model(torch.ones(2, 8, device=DEVICE))
    return {"snapshot": SnapshotReader(tracer.graph()).read(0.0).to_dict()}


def attempt(work: Callable[..., dict[str, Any]], *arguments: str) -> dict[str, Any]:
    try:
        return work(*arguments)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    torch.set_num_threads(1)
    if ON_GPUS:
        torch.cuda.set_device(DEVICE)
    store = torch.distributed.FileStore(str(FOLDER / "store"), SIZE)
    torch.distributed.init_process_group(
        "nccl" if ON_GPUS else "gloo", store=store, rank=RANK, world_size=SIZE
    )
    results = {
        f"{network}: {way}": attempt(watch, network, way)
        for network in NETWORKS
        for way in WAYS
        if way != "tensor parallel" or network == "perceptron"
    }
    results["differ"] = attempt(differ)
    (FOLDER / f"{RANK}.json").write_text(json.dumps(results))
    leave_group()


if __name__ == "__main__":
    main()
