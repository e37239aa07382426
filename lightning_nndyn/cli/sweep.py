"""``nndyn sweep``: Optuna's search, or a race."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lightning_nndyn.cli.console import new_console


def sweep(
    plan: Annotated[Path, typer.Argument(help="YAML file: what to train, the search space, how many runs.")],
    trials: Annotated[
        int | None, typer.Option(help="Runs that are to end in all; the file's number unless given.", min=1)
    ] = None,
) -> None:
    """Search hyperparameters: runs that the sweep's own finished runs say will end low are stopped.

    Goes on with a sweep that was cut. Several of these commands on one file work side by side. A `race` part
    makes a race of it: all runs are trained for a sixteenth of an epoch, the most promising longer.

    Example: `nndyn sweep examples/sweep.yaml`
    """
    from dataclasses import replace

    from rich.live import Live

    from lightning_nndyn.study import load_plan
    from lightning_nndyn.study import sweep as run_sweep
    from lightning_nndyn.study.live_table import sweep_table

    found = load_plan(plan)
    wanted = replace(found, trials=trials or found.trials)
    if wanted.race is not None:
        _race(wanted)
        return

    def shown(study: Any) -> Any:
        known = study.get_trials(deepcopy=False)
        return sweep_table(known, wanted.trials, wanted.direction)

    console = new_console()
    if not console.is_terminal:  # a live table in a file would be printed over and over
        console.print(shown(run_sweep(wanted)))
        return
    with Live(console=console, auto_refresh=False) as live:
        run_sweep(wanted, lambda study: live.update(shown(study), refresh=True))


def _race(plan: Any) -> None:
    from rich.live import Live

    from lightning_nndyn.study.live_table import race_table
    from lightning_nndyn.study.run import run_race

    console = new_console()
    if not console.is_terminal:
        console.print(race_table(run_race(plan)))
        return
    with Live(console=console, auto_refresh=False) as live:
        live.update(race_table(run_race(plan, lambda race: live.update(race_table(race), refresh=True))))
