"""Training steps of the paper's networks on one core, in float32 and in bf16: which is faster here?

    python benchmarks/training.py lenet5 resnet32 --size 16

Synthetic images, as many as fill `--steps` batches of 128; each run has three epochs, and the fastest counts.
The precisions take turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table

from lightning_nndyn.corpus import GridPreset, ImageData, train_run

_PRECISIONS = ("float32", "bf16")
_BATCH, _EPOCHS, _CLASSES = 128, 3, 10
_LARGE = 2.449  # initial weights of He et al., with which no network dies


def synthetic(images: int, tests: int, size: int) -> ImageData:
    """Random colour images of so many pixels, and labels."""

    def split(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.randint(256, (count, 3, size, size), dtype=torch.uint8)
        return pixels, torch.arange(count) % _CLASSES

    return ImageData(*split(images), *split(tests), tuple(map(str, range(_CLASSES))))


def step_seconds(network: str, data: ImageData, precision: str, steps: int) -> float:
    """Of one training step, by a run's own clock; the test after an epoch is left small."""
    config = GridPreset("bench", network, "cifar10", epochs=_EPOCHS, init_scale=_LARGE).config(0)
    record = train_run(replace(config, learning_rate=1e-3, precision=precision), data)
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
    parser.add_argument("--repeats", type=int, default=2, help="runs in each precision")
    arguments = parser.parse_args()
    data = synthetic(arguments.steps * _BATCH, _CLASSES, arguments.size)
    table = Table("network", *(f"{precision}, ms a step" for precision in _PRECISIONS), "bf16 / float32")
    for network in arguments.networks:
        turns = [
            [step_seconds(network, data, precision, arguments.steps) for precision in _PRECISIONS]
            for _ in range(arguments.repeats)
        ]
        single, half = (min(seconds) for seconds in zip(*turns, strict=True))
        table.add_row(network, f"{1e3 * single:.1f}", f"{1e3 * half:.1f}", f"{half / single:.2f}")
    console = Console()
    processor = torch.backends.cpu.get_cpu_capability()
    console.print(f"torch {torch.__version__}, {processor}, {arguments.size} pixels")
    console.print(table)


if __name__ == "__main__":
    main()
