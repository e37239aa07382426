"""What a run needs of the process that trains it: a device, random numbers of its own, threads, precision."""

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from lightning_nndyn.errors import CorpusError

_CPU = torch.device("cpu")

SLOW_BF16 = (
    "this processor has no instructions for bf16: a run takes several times as long as with "
    "--precision float32, in which a corpus in bf16 can be continued"
)


def checked_device(device: str | torch.device) -> torch.device:
    """The device of that name.

    Raises:
        CorpusError: There is none, or runs cannot be trained on its kind.
    """
    try:
        device = torch.device(device)
    except RuntimeError:
        raise CorpusError(f"device={device!r} is none that torch knows: pass 'cpu' or 'cuda'") from None
    if device.type not in ("cpu", "cuda"):
        raise CorpusError(f"device={str(device)!r}: runs are trained on 'cpu' or 'cuda'")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CorpusError(f"device={str(device)!r}: torch sees no CUDA device; train on 'cpu'")
    if device.type == "cuda" and (device.index or 0) >= (seen := torch.cuda.device_count()):
        raise CorpusError(f"device={str(device)!r}: torch sees {seen} CUDA device(s), counted from 'cuda:0'")
    return device


@contextmanager
def seeded(seed: int, device: torch.device = _CPU) -> Iterator[None]:
    """Seed torch's random state on the CPU, and on the device, and restore both afterwards.

    `torch.manual_seed` would seed all CUDA devices; the state of the others must stay as it is.
    """
    on_card = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_card else []):
        torch.default_generator.manual_seed(seed)
        if on_card:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread, and restore the number of threads afterwards.

    Small networks train fastest on one thread; a corpus uses the cores by processes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """On a CUDA device: convolutions in true float32, by algorithms that give the same bits each time."""
    if device.type == "cpu":
        return nullcontext()
    flags: AbstractContextManager[object] = torch.backends.cudnn.flags(
        enabled=True, deterministic=True, allow_tf32=False
    )
    return flags


def slow_bf16() -> bool:
    """Whether this processor computes bf16 by way of float32: on x86 before AVX-512."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return x86 and "AVX512" not in torch.backends.cpu.get_cpu_capability()
