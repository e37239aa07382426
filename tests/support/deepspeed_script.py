"""Runs under DeepSpeed's ZeRO on processes that share the weights, for test_callback_deepspeed.py."""

from __future__ import annotations

from functools import partial

import lightning.pytorch.strategies.deepspeed as lightning_deepspeed
import strategy_script as scripts
import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from processes import leave_group

if not scripts.ON_GPUS:
    # Lightning lets DeepSpeed run on GPUs only: these are its checks, and the index of each process's device.
    lightning_deepspeed._validate_device_index_selection = lambda *_: None


class Zero(DeepSpeedStrategy):
    def __init__(self, stage: int) -> None:
        super().__init__(
            process_group_backend=None if scripts.ON_GPUS else "gloo",
            config={
                "train_micro_batch_size_per_gpu": scripts.BATCH // scripts.SIZE,
                "zero_optimization": {"stage": stage},
                "zero_allow_untested_optimizer": True,
                "zero_force_ds_cpu_optimizer": False,
            },
        )

    def setup_environment(self) -> None:
        (DeepSpeedStrategy if scripts.ON_GPUS else DDPStrategy).setup_environment(self)

    @property
    def root_device(self) -> torch.device:
        return torch.device("cuda" if scripts.ON_GPUS else "cpu", self.local_rank)


def main() -> None:
    torch.set_num_threads(1)
    for stage in (1, 2, 3):
        strategy = f"zero {stage}"
        scripts.STRATEGIES[strategy] = partial(Zero, stage)
        scripts.run(f"{strategy}, plain", strategy, None, max_epochs=1)
        scripts.run(f"{strategy}, watched", strategy, scripts.watcher(action="observe"))
        scripts.run(f"{strategy}, doomed", strategy, scripts.watcher(), lr=scripts.DOOMED)
        scripts.run(
            f"{strategy}, dataflow", strategy, scripts.watcher(None, topology="dataflow"), max_epochs=1
        )
    scripts.run("ddp, watched", "ddp", scripts.watcher(action="observe"))


if __name__ == "__main__":
    main()
    leave_group()
