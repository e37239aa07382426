"""Reads weights and losses on a device that has float64, and on one that has not, for test_fake_device.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from fake_device import DEVICE, OnDevice, fake_device, register

import lightning_nndyn as nd
from lightning_nndyn.callback.losses import LossMeter
from lightning_nndyn.signature.reader import SnapshotReader

LOSSES = 130


def reader_of(model: torch.nn.Module, device: torch.device) -> SnapshotReader:
    image = torch.zeros(1, 3, 16, 16, device=device)
    return SnapshotReader(nd.rolled_graph(model, image), per_layer=True)


def weights(has_float64: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(784, 10)
    )
    expected = reader_of(model, torch.device("cpu")).read(0.0)
    with fake_device(has_float64) as device:
        reader = reader_of(device.move(model), DEVICE)
        first = reader.read(0.0)
        device.to_host.clear()
        device.to_device.clear()
        second = reader.read(1.0)
    return {
        "to_host": device.to_host,
        "to_device": device.to_device,
        "statistics": [first.statistics, second.statistics, expected.statistics],
        "distances": second.distances,
    }


def losses(has_float64: bool) -> dict[str, Any]:
    values = torch.rand(LOSSES, generator=torch.Generator().manual_seed(0))
    meter = LossMeter(16)
    with fake_device(has_float64) as device:
        for value in values:
            meter.add(OnDevice(value))
        copies = [*device.to_host, *device.to_device]
        read = meter.read(DEVICE).cpu()
    return {"copies": copies, "read": read.tolist(), "mean": float(values.mean())}


def main() -> None:
    register()
    result = {str(has): {"weights": weights(has), "losses": losses(has)} for has in (True, False)}
    (Path(sys.argv[1]) / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
