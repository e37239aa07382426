"""``nndyn demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    runs: Annotated[int, typer.Option(help="Configurations in the sweep.", min=1)] = 16,
    predictor: Annotated[str, typer.Option(help="Name or path of a predictor.")] = "lenet5-digits",
    max_false_stop_rate: Annotated[
        float, typer.Option(help="Share of good runs that may be stopped.")
    ] = 0.05,
    output: Annotated[Path, typer.Option(help="Folder for logs, table and picture.")] = Path("nndyn-demo"),
    seed: Annotated[int, typer.Option(help="Draws other configurations.", min=0)] = 0,
) -> None:
    """Sweep LeNet on digits with the real Trainer, and tell what stopping saved and lost.

    Example: `nndyn demo --runs 32 --seed 1`
    """
    from lightning_nndyn.cli.demo import run_demo

    run_demo(runs, predictor=predictor, max_false_stop_rate=max_false_stop_rate, output=output, seed=seed)
