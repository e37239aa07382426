"""Many runs of one network on one device at a time: a pack.

    from lightning_nndyn.corpus.packing import train_pack
    records = train_pack([preset.config(index) for index in range(64)], data, device="cuda")

One run of a small network leaves a GPU idle: its step is a hundred kernels of a few microseconds, which the
host launches one by one. A pack launches the step as one CUDA graph, and trains many runs by it or beside it.

`pack` is the way in; `members` trains the runs of a pack and writes their records; `stack` is the device's
side of runs that share their kernels, of which a pack has one ("stacked") or one a run ("side-by-side"). What
a stack is made of: `weights` of all runs in one tensor, laid out by `layouts`; `optimizers` that step them;
`pictures` and `plans`, from which come the batches; `dropout` and `mask_bank`, the masks; `convolutions`,
another way to compute them; `graphs`, the recording of a step.
"""

from lightning_nndyn.corpus.packing.pack import (
    MODES,
    check_size,
    checked_device,
    default_mode,
    packs,
    train_pack,
)

__all__ = ["MODES", "check_size", "checked_device", "default_mode", "packs", "train_pack"]
