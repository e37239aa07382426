"""Runs per minute of packs of runs on one device, against one run at a time.

    python benchmarks/packing.py --network lenet5 --pack 1 8 32 64 128 --seconds 20 [--device cuda]

Synthetic images, as many as fill whole batches. `--seconds` of steps are timed for each row, after the first
ones, and stretched to whole runs of so many images and epochs, with the tests and the snapshots that a run
makes. "one at a time" is a plain training loop on the device, its images there too: what packing has to beat.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

import joblib
import torch
from rich.console import Console
from rich.table import Table

from lightning_nndyn.corpus import ImageData, RunConfig
from lightning_nndyn.corpus.packing import MODES
from lightning_nndyn.corpus.packing.members import out_of_memory
from lightning_nndyn.corpus.packing.pictures import Pictures
from lightning_nndyn.corpus.packing.stack import Stack
from lightning_nndyn.corpus.training.batches import EpochPlan, EpochPlanner
from lightning_nndyn.corpus.training.network import build_network
from lightning_nndyn.corpus.training.recorder import Run
from lightning_nndyn.corpus.training.train import make_optimizer
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES

WARM_UP = 5  # steps, in which graphs are recorded and algorithms chosen


def synthetic(images: int, tests: int, size: int, classes: int) -> ImageData:
    def split(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.randint(256, (count, 3, size, size), dtype=torch.uint8)
        return pixels, torch.arange(count) % classes

    return ImageData(*split(images), *split(tests), tuple(map(str, range(classes))))


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object], device: torch.device) -> float:
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


def step_time(step: Callable[[int], None], batches: int, seconds: float, device: torch.device) -> float:
    """Seconds a step; the steps given come from the epoch's beginning again and again."""
    for number in range(WARM_UP):
        step(number % batches)
    wait(device)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(8):  # a look at the clock need not wait for the device
            step((WARM_UP + steps) % batches)
            steps += 1
        if steps % 64 == 0:
            wait(device)
    wait(device)
    return (time.perf_counter() - started) / steps


def one_at_a_time(config: RunConfig, data: ImageData, device: torch.device, seconds: float) -> float:
    """Seconds a step of the plain loop."""
    network = build_network(config, data).to(device).train()
    optimizer, pictures = make_optimizer(config, network.parameters()), Pictures(data, 4, device)
    planner = EpochPlanner(config, len(data.train_labels))
    plan = EpochPlan(*(part.unsqueeze(0).to(device) for part in planner.draw()))

    def step(batch: int) -> None:
        first = batch * config.batch_size
        part = EpochPlan(*(one[:, first : first + config.batch_size] for one in plan))
        images, labels = pictures.batch(part)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            logits = network(images[0])
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.float(), labels[0]).backward()
        optimizer.step()

    return step_time(step, len(planner), seconds, device)


class Packed:
    """A pack in training, without its records."""

    def __init__(
        self, configs: Sequence[RunConfig], data: ImageData, device: torch.device, mode: str, pool: Executor
    ) -> None:
        self.epochs, self.epoch, self.pool = configs[0].epochs, 0, pool
        self.batches = -(-len(data.train_labels) // configs[0].batch_size)
        self.runs = [Run(config, data, self.batches) for config in configs]
        generators = [torch.Generator().manual_seed(config.seed) for config in configs]
        pictures = Pictures(data, configs[0].crop_padding, device)
        size, products = 1 if mode == "side-by-side" else len(configs), mode == "stacked-bmm"
        self.stacks = [
            Stack(self.runs[i : i + size], generators[i : i + size], pictures, pool, products=products)
            for i in range(0, len(configs), size)
        ]

    def step(self, batch: int) -> None:
        if batch == 0:
            self.epoch = min(self.epoch + 1, self.epochs)
            for stack in self.stacks:
                stack.begin_epoch(self.epoch)
        for stack in self.stacks:
            stack.step(batch)

    def test(self) -> None:
        for stack in self.stacks:
            stack.test()
        for stack in self.stacks:
            stack.test_results()

    def snapshot(self) -> None:
        for stack in self.stacks:
            stack.pull()
        list(self.pool.map(lambda run: run.snapshot(0.0, torch.zeros(1)), self.runs))


def packed(
    configs: Sequence[RunConfig], data: ImageData, device: torch.device, seconds: float, mode: str
) -> tuple[float, float, float]:
    """Seconds of a step, of a test and of a snapshot of the whole pack."""
    workers = joblib.cpu_count()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        pack = Packed(configs, data, device, mode, pool)
        stepping = step_time(pack.step, pack.batches, seconds, device)
        pack.test()
        pack.snapshot()
        times = stepping, timed(pack.test, device), timed(pack.snapshot, device)
        for stack in pack.stacks:
            stack.close()
        return times


def row(
    name: str, pack: int, times: tuple[float, float, float], batches: int, epochs: int
) -> dict[str, object]:
    step, test, snapshot = times
    whole = epochs * (batches * step + test + snapshot) + (1 + len(DEFAULT_TIMES)) * snapshot
    return {
        "mode": name,
        "pack": pack,
        "step_ms": round(1e3 * step, 3),
        "test_ms": round(1e3 * test, 2),
        "snapshot_ms": round(1e3 * snapshot, 2),
        "runs_per_minute": round(60 * pack / whole, 4),
    }


def measure(settings: argparse.Namespace, data: ImageData, device: torch.device) -> list[dict[str, object]]:
    config = RunConfig(
        "benchmark", settings.network, "cifar10", 0, 0, 0.01, settings.dropout,
        batch_size=settings.batch_size, epochs=settings.epochs, precision=settings.precision,
    )  # fmt: skip
    batches = -(-len(data.train_labels) // config.batch_size)
    _, test, snapshot = packed([config], data, device, 0.1, "side-by-side")
    alone = one_at_a_time(config, data, device, settings.seconds)
    rows = [row("one at a time", 1, (alone, test, snapshot), batches, config.epochs)]
    for mode in settings.modes:
        for pack in settings.pack:
            configs = [replace(config, index=i, seed=i, learning_rate=1e-3 * (1 + i)) for i in range(pack)]
            gc.collect()  # stacks of a pack that ran out of memory, and their graphs, refer to each other
            try:
                times = packed(configs, data, device, settings.seconds, mode)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                rows.append({"mode": mode, "pack": pack, "error": "out of memory"})
                continue
            rows.append(row(mode, pack, times, batches, config.epochs))
    return rows


def show(rows: list[dict[str, object]], title: str) -> None:
    table, columns = Table(title=title), (*rows[0], "against one")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for one in rows:
        if "error" in one:
            table.add_row(*map(str, one.values()))
            continue
        gain = float(str(one["runs_per_minute"])) / float(str(rows[0]["runs_per_minute"]))
        table.add_row(*map(str, one.values()), f"{gain:.2f} x")
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="lenet5")
    parser.add_argument("--pack", type=int, nargs="+", default=[1, 8, 32, 64, 128])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--test-images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    settings = parser.parse_args()
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False
    torch.manual_seed(0)
    device = torch.device(settings.device)
    images = max(settings.images // settings.batch_size, 1) * settings.batch_size
    data = synthetic(images, settings.test_images, settings.size, settings.classes)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    rows = measure(settings, data, device)
    show(rows, f"{settings.network}, {settings.precision}, {name}, torch {torch.__version__}")
    print(json.dumps({**vars(settings), "device": name, "torch": torch.__version__, "rows": rows}))


if __name__ == "__main__":
    main()
