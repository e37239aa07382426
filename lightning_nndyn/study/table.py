"""The live table of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from lightning_nndyn.study.abandoned import killed

_SHOWN = 12  # latest trials; and the best one
_STYLES = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red", "KILLED": "red", "RUNNING": "bold"}
_WORDS = {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed"}


def trials_table(trials: Sequence[Any], wanted: int, direction: str, seconds: float | None) -> Group:
    """The best and the latest trials, and how far the sweep is.

    Args:
        trials: Optuna's frozen ones, by number.
        wanted: how many are to end.
        direction: of the study.
        seconds: a trial takes on average; None if not known.
    """
    best = best_of(trials, direction)
    table = Table(title=None, expand=True)
    for name, justify in (("run", "right"), ("hyperparameters", "left"), ("state", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name in ("predicted", "final"):
        table.add_column(name, justify="right")
    table.add_column("why", ratio=1, no_wrap=True, overflow="ellipsis")
    latest = list(trials[-_SHOWN:])
    rows = latest if best is None or best in latest else [best, *latest]
    for trial in rows:
        table.add_row(*_cells(trial, trial is best))
    return Group(table, Text(_summary(trials, wanted, best, seconds)))


def best_of(trials: Sequence[Any], direction: str) -> Any:
    """The finished trial with the best value; None before there is one."""
    finished = [trial for trial in trials if trial.state.name == "COMPLETE"]
    choose = max if direction == "maximize" else min
    return choose(finished, key=lambda trial: trial.value, default=None)


def _cells(trial: Any, best: bool) -> list[Text]:
    state = _state(trial)
    predicted = (
        trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else None
    )
    params = ", ".join(f"{name} {short(value)}" for name, value in trial.params.items())
    final = short(trial.value) if state == "COMPLETE" else ""
    return [
        Text(f"{'* ' if best else ''}{trial.number}"),
        Text(params),
        Text(_WORDS.get(state, state.lower()), style=_STYLES.get(state, "")),
        Text("" if predicted is None else short(predicted)),
        Text(final, style="bold" if best else ""),
        Text(str(trial.user_attrs.get("nndyn:reason", ""))),
    ]


def _state(trial: Any) -> str:
    return "KILLED" if killed(trial) else str(trial.state.name)


def _summary(trials: Sequence[Any], wanted: int, best: Any, seconds: float | None) -> str:
    states = [_state(trial) for trial in trials]
    counts = {name: states.count(name) for name in ("COMPLETE", "PRUNED", "FAIL")}
    ended = sum(counts.values())
    parts = [f"{ended} of {wanted} runs: {counts['COMPLETE']} finished, {counts['PRUNED']} stopped"]
    if counts["FAIL"]:
        parts[0] += f", {counts['FAIL']} failed"
    if best is not None:
        parts.append(f"best {short(best.value)} (run {best.number})")
    if seconds is not None and ended < wanted:
        parts.append(f"about {timedelta(seconds=round((wanted - ended) * seconds))} left")
    return "; ".join(parts)


def mean_seconds(trials: Sequence[Any]) -> float | None:
    """Seconds from one trial's end to the next, over the latest ones: several processes may be at work."""
    ends = sorted(trial.datetime_complete for trial in trials if trial.datetime_complete is not None)[
        -_SHOWN:
    ]
    starts = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    if not ends or not starts:
        return None
    if len(ends) == 1:
        return float((ends[0] - min(starts)).total_seconds())
    return float((ends[-1] - ends[0]).total_seconds() / (len(ends) - 1))


def short(value: Any) -> str:
    """A value in four digits, if it is a number with more."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
