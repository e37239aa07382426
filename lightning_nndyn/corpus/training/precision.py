"""Which precision this processor is fast in."""

import platform

import torch

SLOW_BF16 = (
    "this processor has no instructions for bf16: a run takes several times as long as with "
    "--precision float32, in which a corpus that was begun in bf16 can be gone on with"
)


def slow_bf16() -> bool:
    """Whether bf16 is computed by way of float32 here: on x86 before AVX-512."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return x86 and "AVX512" not in torch.backends.cpu.get_cpu_capability()
