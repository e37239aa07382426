"""What the commands print on, and what they read alike."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

Corpora = Annotated[list[Path], typer.Argument(help="Corpus folders or parquet files.")]
InputShape = Annotated[str | None, typer.Option("--input", help="Shape of one input, for example 3x32x32.")]

_PIPE_WIDTH = 160


def new_console() -> Console:
    """Into a file or a pipe, tables are as wide as they need to be: there is no edge to fold them at."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=_PIPE_WIDTH)
    return console


def shape_of(text: str) -> list[int]:
    """The sizes that a text such as ``3x32x32`` names.

    Raises:
        typer.BadParameter: it is no such text.
    """
    try:
        return [int(size) for size in text.split("x")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no shape such as 3x32x32") from None
