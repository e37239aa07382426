"""``nndyn demo``: a sweep of LeNet on digits, with and without the callback, by the real Trainer.

`configurations` says what is trained, `training` trains it, `outcome` counts what was saved and lost,
`picture` draws it, `sweep` leads through both passes.
"""

from lightning_nndyn.cli.demo.sweep import run_demo

__all__ = ["run_demo"]
