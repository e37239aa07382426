"""``nndyn sweep``: a search by Optuna, or a race, from a YAML file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from lightning_nndyn._files import shipped_folder
from lightning_nndyn.cli.console import new_console


def sweep(
    plan: Annotated[
        Path | None, typer.Argument(help="YAML file: what to train, the search space, how many runs.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Number of runs; the file's unless given.", min=1)
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Write sweep.yaml and sweep_digits.py here, to begin with.")
    ] = False,
) -> None:
    """Search hyperparameters, and stop runs that will not end among the best, as finished runs predict.

    The command goes on with a sweep that was cut, and several of them can work on one file at the same time.
    With a `race` part in the file, all runs are trained for a sixteenth of an epoch, the best for longer.

    Example: `nndyn sweep --example`, then `nndyn sweep sweep.yaml`
    """
    if example:
        return _write_example(Path())
    if plan is None:
        raise typer.BadParameter("give a YAML file; --example writes one to begin with")
    from dataclasses import replace

    from lightning_nndyn.study import load_config
    from lightning_nndyn.study import sweep as run_sweep
    from lightning_nndyn.study.live_table import race_table, sweep_table
    from lightning_nndyn.study.run import run_race

    config = load_config(plan)
    config = replace(config, trials=trials or config.trials)

    def table(study: Any) -> Any:
        return sweep_table(study.get_trials(deepcopy=False), config.trials, config.direction)

    if config.race is None:
        _run_with_table(partial(run_sweep, config), table)
    else:
        _run_with_table(partial(run_race, config), race_table)


def _write_example(folder: Path) -> None:
    source = shipped_folder("examples")
    for name in ("sweep.yaml", "sweep_digits.py"):
        if (folder / name).exists():
            raise typer.BadParameter(f"{name} is here already, and is not replaced")
        (folder / name).write_bytes((source / name).read_bytes())
    typer.echo("sweep.yaml and sweep_digits.py: nndyn sweep sweep.yaml")


def _run_with_table(run: Callable[..., Any], table: Callable[[Any], Any]) -> None:
    """Show the table of a sweep or a race: live on a terminal, elsewhere at the end.

    Args:
        run: takes what to call with each new state, and returns the last one.
        table: of a state.
    """
    from rich.live import Live

    console = new_console()
    if not console.is_terminal:  # a live table would be printed anew with each update
        console.print(table(run()))
        return
    with Live(console=console, auto_refresh=False) as live:
        live.update(table(run(lambda state: live.update(table(state), refresh=True))), refresh=True)
