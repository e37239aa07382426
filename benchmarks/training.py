"""Training steps of the paper's networks on one core, in float32 and in bf16: which is faster here?

    python benchmarks/training.py lenet5 resnet32 --size 16
    python benchmarks/training.py alexnet vgg7 --size 16 --ways float32 plain

"plain" is float32 by torch's convolutions alone, see `corpus/small_maps.py`. Synthetic images, as many as
fill `--steps` batches of 128; each run has three epochs, and the fastest counts. The ways take turns, so that
what else the machine does meets all.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from unittest.mock import patch

import torch
from packing import synthetic
from rich.console import Console
from rich.table import Table

from lightning_nndyn.corpus import GridPreset, ImageData, train_run, training

_WAYS = ("float32", "bf16", "plain")
_BATCH, _EPOCHS, _CLASSES = 128, 3, 10
_LARGE = 2.449  # initial weights of He et al., with which no network dies


def step_seconds(network: str, data: ImageData, way: str, steps: int) -> float:
    """Of one training step, by a run's own clock; the test after an epoch is left small."""
    config = GridPreset("bench", network, "cifar10", epochs=_EPOCHS, init_scale=_LARGE).config(0)
    config = replace(config, learning_rate=1e-3, precision="bf16" if way == "bf16" else "float32")
    replaced = (lambda *_: None) if way == "plain" else training.replace_convolutions
    with patch.object(training, "replace_convolutions", replaced):
        record = train_run(config, data)
    if record.failed:
        raise SystemExit(f"{network}: {record.reason}")
    return min(record.curve["seconds"]) / steps


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    networks = ["lenet5", "alexnet", "vgg7", "resnet32", "resnet44"]
    parser.add_argument("networks", nargs="*", default=networks)
    parser.add_argument("--size", type=int, default=16, help="of the images, in pixels")
    parser.add_argument("--steps", type=int, default=10, help="in an epoch")
    parser.add_argument("--repeats", type=int, default=2, help="runs in each way")
    parser.add_argument("--ways", nargs="+", choices=_WAYS, default=["float32", "bf16"])
    arguments = parser.parse_args()
    data = synthetic(arguments.steps * _BATCH, _CLASSES, arguments.size, _CLASSES)
    first, *others = arguments.ways
    ratios = [f"{other} / {first}" for other in others]
    table = Table("network", *(f"{way}, ms a step" for way in arguments.ways), *ratios)
    for network in arguments.networks:
        turns = [
            [step_seconds(network, data, way, arguments.steps) for way in arguments.ways]
            for _ in range(arguments.repeats)
        ]
        best = [min(seconds) for seconds in zip(*turns, strict=True)]
        milliseconds = [f"{1e3 * one:.1f}" for one in best]
        table.add_row(network, *milliseconds, *(f"{one / best[0]:.2f}" for one in best[1:]))
    console = Console()
    processor = torch.backends.cpu.get_cpu_capability()
    console.print(f"torch {torch.__version__}, {processor}, {arguments.size} pixels")
    console.print(table)


if __name__ == "__main__":
    main()
