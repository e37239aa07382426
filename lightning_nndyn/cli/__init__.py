"""The command ``nndyn``, one file for each subcommand.

In: arguments and files. Out: tables on the terminal, and files. Each command calls one function of the
package that does the work, and imports that package when it runs.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer
from rich.console import Console

from lightning_nndyn import __version__
from lightning_nndyn.cli.corpus import corpus_app
from lightning_nndyn.cli.demo import demo
from lightning_nndyn.cli.evaluate import evaluate_app
from lightning_nndyn.cli.fit import fit
from lightning_nndyn.cli.graph import graph
from lightning_nndyn.cli.predict import predict
from lightning_nndyn.cli.rank import rank
from lightning_nndyn.cli.report import report
from lightning_nndyn.cli.sweep import sweep
from lightning_nndyn.errors import NNDynError

app = typer.Typer(
    help="Predict from a network's weights how accurate its training will end; stop runs that will end low.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

app.add_typer(corpus_app, name="corpus")
app.add_typer(evaluate_app, name="evaluate")
for _command in (demo, graph, fit, predict, rank, report, sweep):
    app.command()(_command)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"nndyn {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command. An error of this package becomes one line on stderr and exit status 1."""
    for stream in (sys.stdout, sys.stderr):  # names of files may be no Unicode, and consoles know few signs
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except NNDynError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"nndyn: {error}", markup=False)
        sys.exit(1)
