"""The tables that ``nndyn sweep`` shows while a sweep or a race is running."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from lightning_nndyn.predictor.policy import epochs_in_words
from lightning_nndyn.study.killed_trials import was_killed
from lightning_nndyn.study.race_result import RaceResult

_MAX_ROWS = 12
_WIDE = 120  # columns of a terminal on which a reason fits beside its run
_STYLES = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red", "KILLED": "red", "RUNNING": "bold"}
_WORDS = {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed"}


def sweep_table(trials: Sequence[Any], num_trials: int, direction: str) -> Group:
    """The best and the latest trials of a sweep, and its progress.

    Args:
        trials: Optuna's frozen ones, by number.
        num_trials: that are to end.
        direction: of the study.
    """
    finished = [trial for trial in trials if trial.state.name == "COMPLETE"]
    choose = max if direction == "maximize" else min
    best = choose(finished, key=lambda trial: trial.value, default=None)
    latest = list(trials[-_MAX_ROWS:])
    rows = latest if best is None or best in latest else [best, *latest]
    columns = ("run", "hyperparameters", "state", "predicted", "final", "why")
    cells = (_trial_cells(trial, trial is best) for trial in rows)
    return runs_table(columns, cells, _sweep_progress(trials, num_trials, best))


def race_table(state: RaceResult) -> Group:
    """The candidates of a race that have come farthest, and its progress."""

    def key(candidate: int) -> tuple[float, ...]:
        last = state.last(candidate)
        if last is None:
            return (1.0, 0.0, 0.0)
        return (-last.rung, bool(last.failure), -(last.value or last.predicted or last.best_accuracy or 0.0))

    farthest = sorted(range(len(state.candidates)), key=key)[:_MAX_ROWS]
    columns = ("run", "hyperparameters", "predicted", "seen", "final", "why")
    return runs_table(
        columns, (_candidate_cells(state, candidate) for candidate in farthest), _race_progress(state)
    )


def runs_table(columns: Sequence[str], rows: Iterable[Sequence[Text]], progress: str) -> Group:
    """A table of runs with a line below it.

    Args:
        columns: the first names a run, the last one is its reason.
        rows: cells of each run.
        progress: the line.
    """
    return Group(_Runs(columns, list(rows)), Text(progress))


class _Runs:
    """A table of runs, whose last column is the reason; on a narrow terminal the reasons stand below it."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
        self.columns, self.rows = columns, rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= _WIDE
        table = Table(title=None, expand=True)
        for name in self.columns[:-1]:
            left = name in ("hyperparameters", "state")
            table.add_column(name, justify="left" if left else "right", overflow="fold")
        if wide:
            table.add_column(self.columns[-1], ratio=1, no_wrap=True, overflow="ellipsis")
        for cells in self.rows:
            table.add_row(*(cells if wide else cells[:-1]))
        yield table
        for cells in () if wide else self.rows:
            if cells[-1].plain:
                yield Text.assemble(cells[0], ": ", cells[-1])


def _name_cells(number: int, params: Mapping[str, Any], best: bool) -> list[Text]:
    values = ", ".join(f"{name} {_short(value)}" for name, value in params.items())
    return [Text(f"{'* ' if best else ''}{number}"), Text(values)]


def _short(value: Any) -> str:
    """Four digits of a number; nothing for None."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


# -- of a sweep ----------------------------------------------------------------------------------------------


def _trial_cells(trial: Any, best: bool) -> list[Text]:
    state, values = _state(trial), trial.intermediate_values
    return [
        *_name_cells(trial.number, trial.params, best),
        Text(_WORDS.get(state, state.lower()), style=_STYLES.get(state, "")),
        Text(_short(values[max(values)] if values else None)),
        Text(_short(trial.value) if state == "COMPLETE" else "", style="bold" if best else ""),
        Text(str(trial.user_attrs.get("nndyn:reason", ""))),
    ]


def _state(trial: Any) -> str:
    return "KILLED" if was_killed(trial) else str(trial.state.name)


def _sweep_progress(trials: Sequence[Any], num_trials: int, best: Any) -> str:
    states = [_state(trial) for trial in trials]
    counts = {name: states.count(name) for name in _WORDS}
    ended, seconds = sum(counts.values()), _mean_seconds(trials)
    parts = [f"{ended} of {num_trials} runs: {counts['COMPLETE']} finished, {counts['PRUNED']} stopped"]
    if counts["FAIL"]:
        parts[0] += f", {counts['FAIL']} failed"
    if best is not None:
        parts.append(f"best {_short(best.value)} (run {best.number})")
    if seconds is not None and ended < num_trials:
        parts.append(f"about {timedelta(seconds=round((num_trials - ended) * seconds))} left")
    return "; ".join(parts)


def _mean_seconds(trials: Sequence[Any]) -> float | None:
    """From one trial's end to the next, as several processes may train; over the latest trials."""
    ends = sorted(trial.datetime_complete for trial in trials if trial.datetime_complete is not None)
    starts = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    ends = ends[-_MAX_ROWS:]
    if not ends or not starts:
        return None
    if len(ends) == 1:
        return float((ends[0] - min(starts)).total_seconds())
    return float((ends[-1] - ends[0]).total_seconds() / (len(ends) - 1))


# -- of a race -----------------------------------------------------------------------------------------------


def _candidate_cells(state: RaceResult, candidate: int) -> list[Text]:
    last, best = state.last(candidate), candidate == state.best
    numbers = (None,) * 3 if last is None else (last.predicted, last.best_accuracy, last.value)
    return [
        *_name_cells(candidate, state.candidates[candidate], best),
        *(Text(_short(number)) for number in numbers[:2]),
        Text(_short(numbers[2]), style="bold" if best else ""),
        Text(state.reason(candidate)),
    ]


def _race_progress(state: RaceResult) -> str:
    """The rung that is being trained, and the time that is left for it."""
    parts = []
    ends = [*(f"rung of {epochs_in_words(rung.epochs)}" for rung in state.rungs), "to the end"]
    for rung, end in enumerate(ends):
        running = state.running(rung)
        done = [state.results[rung, one] for one in running if (rung, one) in state.results]
        if len(done) < len(running):
            parts.append(f"{end}: {len(done)} of {len(running)} runs")
            if done:
                left = sum(result.seconds for result in done) / len(done) * (len(running) - len(done))
                parts.append(f"about {timedelta(seconds=round(left))} left for it")
    if state.best is not None and state.value is not None:
        parts.append(f"best {_short(state.value)} (run {state.best})")
    return "; ".join(parts)
