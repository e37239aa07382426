"""Trains many runs at once on one device, each as `train_run` trains it by itself."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import joblib
import torch

from lightning_nndyn.corpus.packing.members import Pack, out_of_memory
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.storage.record import RunRecord
from lightning_nndyn.corpus.training.data import ImageData
from lightning_nndyn.corpus.training.threads import one_thread
from lightning_nndyn.errors import CorpusError

MODES = ("stacked", "stacked-bmm", "side-by-side")

# Reasoned, not measured on a GPU; benchmarks/packing.py measures it. LeNet's kernels are so small that even
# recorded they leave a GPU idle, so its runs share them; a kernel of the larger networks fills a good part of
# one, and a convolution with a group for each run would be slower than as many convolutions.
_STACKED = ("lenet5",)

# As many as should fill a large card, reasoned as well; the networks that are not named, too.
_FILLING = {"lenet5": 64, "resnet50": 4}
_FILLING_ELSE = 8

_SHARED = (
    "network", "network_options", "dataset", "optimizer", "batch_size", "epochs", "crop_padding",
    "images", "test_images", "size", "precision",
)  # fmt: skip


def default_mode(network: str) -> str:
    """How runs of a network are packed unless asked otherwise."""
    return "stacked" if network in _STACKED else "side-by-side"


def packs(configs: Sequence[RunConfig], device: str, size: int | None) -> Iterator[list[RunConfig]]:
    """Runs in groups that can be packed, in their order.

    Args:
        configs: All runs.
        device: Where they will be trained.
        size: Runs in a group at most; None for one on the CPU, and on a card for as many as should fill it.
    """
    groups: dict[str, list[RunConfig]] = {}
    for config in configs:
        key = repr([getattr(config, name) for name in _SHARED])
        groups.setdefault(key, []).append(config)
        if len(groups[key]) == (size or _filling(config.network, device)):
            yield groups.pop(key)
    yield from groups.values()


def check_size(size: int | None) -> None:
    """Raise CorpusError if a pack cannot have that many runs."""
    if size is not None and size < 1:
        raise CorpusError(f"pack={size}: pass at least 1")


def _filling(network: str, device: str) -> int:
    return 1 if device == "cpu" else _FILLING.get(network, _FILLING_ELSE)


def train_pack(
    configs: Sequence[RunConfig],
    data: ImageData,
    departures: Sequence[str] = (),
    *,
    device: str | torch.device = "cuda",
    mode: str | None = None,
    deadline: float | None = None,
) -> list[RunRecord]:
    """Train runs together on one device and return their records, in the order of `configs`.

    Weights, batches, crops, flips and dropout masks are those of `train_run` with the same configuration, on
    this machine; what differs is the arithmetic of the device. A run that diverges or raises ends by itself.
    The caller's random state and number of threads are left as they were. TensorFloat-32 is switched off.

    A record's seconds are the run's share of the pack's, so that they add up to the hours of the device.

    Args:
        configs: Runs of one network on the same images, with the same optimizer, batch size, epochs,
            precision; all else may differ.
        data: The images, on the CPU.
        departures: What the records say of the protocol.
        device: "cuda", "cuda:1", ... or "cpu", where the same steps run one after the other, for tests.
        mode: "stacked" computes each layer of all runs at once; "stacked-bmm" too, its convolutions as matrix
            products; "side-by-side" gives each run its own graph and stream; None for `default_mode`.
        deadline: Give up, and return nothing, as soon as an epoch's pace says that the last one would not
            have ended by then; in seconds since 1970.

    Raises:
        CorpusError: The runs cannot be packed, there is no such device or mode, or memory runs out.
    """
    device, mode = _checked(configs, device, mode)
    if not configs:
        return []
    data = data.subset(configs[0].images, configs[0].test_images)
    workers = joblib.cpu_count() if device.type == "cuda" else 1
    with (
        one_thread(),
        _full_precision(device),
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        try:
            records = Pack(configs, data, departures, pool, deadline).train(device, mode)
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise CorpusError(
                f"memory of {device} has run out with {len(configs)} runs in a pack ({error}): "
                "pack fewer runs with a smaller --pack"
            ) from error
    return [replace(record, versions=record.versions | _place(device, mode)) for record in records]


def _place(device: torch.device, mode: str) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"device": name, "pack": mode}


def _checked(
    configs: Sequence[RunConfig], device: str | torch.device, mode: str | None
) -> tuple[torch.device, str]:
    device = checked_device(device)
    if mode not in (None, *MODES):
        raise CorpusError(f"mode={mode!r} is unknown: choose from {', '.join(MODES)}")
    for config in configs[1:]:
        for name in _SHARED:
            one, other = getattr(configs[0], name), getattr(config, name)
            if one != other:
                raise CorpusError(
                    f"run {config.index} has {name}={other!r}, run {configs[0].index} {one!r}: runs of a "
                    "pack share it; train them in packs of their own"
                )
    return device, mode or default_mode(configs[0].network if configs else "")


def checked_device(device: str | torch.device) -> torch.device:
    """The device of that name.

    Raises:
        CorpusError: There is none, or it is of a kind that no runs are packed on.
    """
    try:
        device = torch.device(device)
    except RuntimeError:
        raise CorpusError(f"device={device!r} is none that torch knows: pass 'cpu' or 'cuda'") from None
    if device.type not in ("cpu", "cuda"):
        raise CorpusError(f"device={str(device)!r}: runs are packed on 'cuda', or on 'cpu' to try it")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CorpusError(f"device={str(device)!r}: torch sees no CUDA device; train without --pack")
    if device.type == "cuda" and (device.index or 0) >= (seen := torch.cuda.device_count()):
        raise CorpusError(f"device={str(device)!r}: torch sees {seen} CUDA device(s), counted from 'cuda:0'")
    return device


def _full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Convolutions in float32 as it is, by the algorithms that are fastest for their sizes."""
    if device.type == "cpu":
        return nullcontext()
    flags: AbstractContextManager[object] = torch.backends.cudnn.flags(
        enabled=True, benchmark=True, allow_tf32=False
    )
    return flags
