"""The unrolled graph of small networks by nested loops, which share no code with it."""

import copy
from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.graph.unrolled import UnrolledGraph

Edge = tuple[int, int, float]


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def windows(layer: nn.Module, x: Tensor, out: Tensor) -> Iterator[tuple[int, int, int, int, int, int]]:
    """(row, column) of an output, (row, column) of a tap, (row, column) that it reads, in bounds or not."""
    kernel, stride = pair(layer.kernel_size), pair(layer.stride)
    dilation = pair(getattr(layer, "dilation", 1))
    padding = layer.padding
    if padding == "same":
        padding = tuple((d * (k - 1)) // 2 for d, k in zip(dilation, kernel, strict=True))
    above, left = (0, 0) if padding == "valid" else pair(padding)
    for y, x_, i, j in product(*map(range, out.shape[2:]), *map(range, kernel)):
        yield y, x_, i, j, y * stride[0] - above + i * dilation[0], x_ * stride[1] - left + j * dilation[1]


def naive_layer(layer: nn.Module, x: Tensor, out: Tensor) -> Iterator[Edge]:
    """Source, target and signed weight of each edge of one layer."""
    if isinstance(layer, nn.Linear):
        weight = layer.weight.tolist()
        yield from ((s, t, weight[t][s]) for t, s in product(*map(range, layer.weight.shape)))
        return
    (depth, height, width), (filters, rows, columns) = x.shape[1:], out.shape[1:]
    convolution = isinstance(layer, nn.Conv2d)
    kernel = layer.weight.tolist() if convolution else None
    for y, x_, i, j, row, column in windows(layer, x, out):
        if not (0 <= row < height and 0 <= column < width):
            continue
        for f in range(filters):
            target = (f * rows + y) * columns + x_
            if kernel is None:
                yield (f * height + row) * width + column, target, 1.0
                continue
            per_group = depth // layer.groups
            first = f // (filters // layer.groups) * per_group
            for c in range(per_group):
                yield ((first + c) * height + row) * width + column, target, kernel[f][c][i][j]


def naive_artefact(layer: nn.Module, x: Tensor, out: Tensor) -> int:
    """Edges more if taps out of bounds read pixel (0, 0) and an edge exists but once."""
    if not isinstance(layer, nn.Conv2d):
        return 0
    height, width = x.shape[2:]
    wired, there = set(), set()
    for y, x_, _, _, row, column in windows(layer, x, out):
        inside = 0 <= row < height and 0 <= column < width
        if not inside:
            wired.add((y, x_))
        elif (row, column) == (0, 0):
            there.add((y, x_))
    return len(wired - there) * layer.out_channels * layer.in_channels // layer.groups


def forward_pairs(model: nn.Sequential, x: Tensor) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """Each layer of the graph with its input and output."""
    found = []
    for layer in model.eval():
        out = layer(x).detach()
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.Linear)):
            found.append((layer, x, out))
        x = out
    return found


def naive_edges(model: nn.Sequential, x: Tensor, values: bool = False) -> np.ndarray:
    """All edges of a sequential model, [E, 3], sorted."""
    edges, first = [], 0
    for layer, source, out in forward_pairs(model, x):
        second = first + source[0].numel()
        scale = source[0].flatten().tolist() if values else None
        edges += [
            (s + first, t + second, w if scale is None else w * scale[s])
            for s, t, w in naive_layer(layer, source, out)
        ]
        first = second
    return as_sorted(np.array(edges))


def as_sorted(edges: np.ndarray) -> np.ndarray:
    return edges[np.lexsort((edges[:, 1], edges[:, 0]))]


def unrolled_edges(graph: UnrolledGraph) -> np.ndarray:
    parts = [torch.stack([part.double() for part in edges], 1) for edges in graph.edges()]
    return as_sorted(torch.cat(parts).numpy())


def lenet_on_digits() -> tuple[nn.Sequential, Tensor]:
    images = torch.tensor(load_digits().images[:1], dtype=torch.float32).unsqueeze(1) / 16
    return nd.models.lenet5(in_channels=1, image_size=8), images


# What the paper's networks do not have: every argument that moves an edge.
GEOMETRIES = {
    "padding": [nn.Conv2d(2, 3, 3, padding=1)],
    "stride leaves a rest": [nn.Conv2d(2, 3, 3, stride=2)],
    "stride and wide padding": [nn.Conv2d(2, 3, 3, stride=3, padding=2)],
    "stride beyond kernel": [nn.Conv2d(2, 3, 1, stride=3)],
    "dilation": [nn.Conv2d(2, 3, 3, dilation=2, padding=1)],
    "groups": [nn.Conv2d(4, 6, 3, groups=2)],
    "depthwise": [nn.Conv2d(2, 4, 3, groups=2, padding=1)],
    "oblong": [nn.Conv2d(2, 3, (1, 4), stride=(2, 1), padding=(0, 2), dilation=(1, 2))],
    "same": [nn.Conv2d(2, 3, 4, padding="same")],
    "valid": [nn.Conv2d(2, 3, 3, padding="valid")],
    "overlapping pool": [nn.MaxPool2d(3, 2)],
    "pool with padding": [nn.AvgPool2d(3, 2, padding=1)],
    "pool with dilation": [nn.MaxPool2d(2, 1, dilation=2)],
    "pool with ceil_mode": [nn.MaxPool2d(2, ceil_mode=True)],
    "oblong pool": [nn.AvgPool2d((2, 3))],
}


def small_net(name: str) -> tuple[nn.Sequential, Tensor]:
    layers = copy.deepcopy(GEOMETRIES[name])
    x = torch.randn(1, getattr(layers[0], "in_channels", 2), 7, 9)
    channels, *size = nn.Sequential(*layers)(x).shape[1:]
    tail = [nn.ReLU(), nn.Flatten(), nn.Linear(channels * size[0] * size[1], 3)]
    return nn.Sequential(*layers, *tail), x
