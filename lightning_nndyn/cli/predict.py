"""``nndyn predict``: predictions for checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lightning_nndyn.cli.console import InputShape, new_console, parse_shape
from lightning_nndyn.errors import PredictorError


def predict(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoint files, or folders of them.")],
    predictor: Annotated[str, typer.Option(help="Name of a shipped predictor, or a path.")] = "universal",
    model: Annotated[
        str | None, typer.Option(help="package.module:name that builds the network, for other checkpoints.")
    ] = None,
    input_shape: InputShape = None,
) -> None:
    """Predict from checkpoints how accurate their runs will end.

    Checkpoints of runs with the callback hold all that is needed. For others name the model: the checkpoints
    of a folder are then one run, and the first of them must have been saved before the first step.

    Example: `nndyn predict lightning_logs/version_0/checkpoints --predictor lenet5-digits`
    """
    from lightning_nndyn.evaluation import predict_checkpoints
    from lightning_nndyn.predictor import load_predictor

    loaded = load_predictor(predictor)
    sizes = None if input_shape is None else parse_shape(input_shape)
    table = Table(title=f"{predictor}: low is {loaded.low_rule}")
    for column in ("checkpoint", "after", "accuracy", "of the best", "p_low", "known", "note"):
        table.add_column(column, overflow="fold")
    readable: list[Path] = []
    whys: list[tuple[Path, str]] = []
    for scored in predict_checkpoints(checkpoints, loaded, model=model, shape=sizes):
        table.add_row(*_cells(scored.file, scored.verdict, scored.why))
        whys.append((scored.file, scored.why))
        readable += [scored.file, *scored.file.parents] if scored.readable else []
    if not readable:
        raise PredictorError(
            f"{whys[0][0]}: {whys[0][1]}; give checkpoints (*.ckpt) that a Trainer has saved"
        )
    new_console().print(table)
    if not set(checkpoints) <= set(readable):
        raise typer.Exit(1)


def _cells(file: Path, verdict: Any, why: str) -> list[str]:
    if verdict is None:
        return [str(file), "-", "-", "-", "-", "-", why]
    relative = "-" if verdict.relative_accuracy is None else f"{verdict.relative_accuracy:.0%}"
    return [
        str(file),
        f"{verdict.epoch:g}",
        f"{verdict.predicted_accuracy:.1%}",
        relative,
        f"{verdict.p_low:.2f}",
        "yes" if verdict.in_domain else "no",
        verdict.note,
    ]
