"""The console of all commands, and the arguments that several of them have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

Corpora = Annotated[
    list[Path], typer.Argument(help="Corpus folders, parquet files; in a clone also lenet5-digits.")
]
InputShape = Annotated[str | None, typer.Option("--input", help="Shape of one input, for example 3x32x32.")]

_PIPE_WIDTH = 160


def new_console() -> Console:
    """A console; in a file or a pipe it is wide, as nothing there has an edge at which to fold tables."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=_PIPE_WIDTH)
    return console


def parse_shape(text: str) -> list[int]:
    """The sizes in a text such as ``3x32x32``.

    Raises:
        typer.BadParameter: the text has another form.
    """
    try:
        return [int(size) for size in text.split("x")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no shape such as 3x32x32") from None
