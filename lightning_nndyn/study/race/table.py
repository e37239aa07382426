"""The live table of a race."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rich.console import Group
from rich.table import Table
from rich.text import Text

from lightning_nndyn.predictor.policy import epochs_in_words
from lightning_nndyn.study.race.state import Race
from lightning_nndyn.study.table import short

_SHOWN = 12


def race_table(race: Race) -> Group:
    """The candidates that have come farthest, and how far the race is."""
    table = Table(title=None, expand=True)
    for name, justify in (("run", "right"), ("hyperparameters", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name in ("predicted", "seen", "final"):
        table.add_column(name, justify="right")
    table.add_column("why", ratio=1, no_wrap=True, overflow="ellipsis")
    for candidate in _farthest(race)[:_SHOWN]:
        table.add_row(*_cells(race, candidate))
    return Group(table, Text(_summary(race)))


def _farthest(race: Race) -> Sequence[int]:
    """Candidates, those first that have come farthest, and of these the better ones."""

    def key(candidate: int) -> tuple[float, ...]:
        last = _last(race, candidate)
        if last is None:
            return (1.0, 0.0, 0.0)
        lap = race.laps[last, candidate]
        return (-last, bool(lap.out), -(lap.value or lap.predicted or lap.seen or 0.0))

    return sorted(range(len(race.candidates)), key=key)


def _last(race: Race, candidate: int) -> int | None:
    return max((number for number, one in race.laps if one == candidate), default=None)


def _cells(race: Race, candidate: int) -> list[Text]:
    last, best = _last(race, candidate), candidate == race.best
    lap = None if last is None else race.laps[last, candidate]
    numbers = (None, None, None) if lap is None else (lap.predicted, lap.seen, lap.value)
    params = ", ".join(f"{name} {short(value)}" for name, value in race.candidates[candidate].items())
    return [
        Text(f"{'* ' if best else ''}{candidate}"),
        Text(params),
        *(Text("" if number is None else short(number)) for number in numbers[:2]),
        Text("" if numbers[2] is None else short(numbers[2]), style="bold" if best else ""),
        Text(race.reason(candidate)),
    ]


def _summary(race: Race) -> str:
    """The lap that is run, and what is left of it."""
    parts = []
    for number in range(len(race.rungs) + 1):
        running = race.running(number)
        done = [race.laps[number, one] for one in running if (number, one) in race.laps]
        if running and len(done) < len(running):
            ends = [*(f"of {epochs_in_words(rung.epochs)}" for rung in race.rungs), "to the end"]
            parts.append(f"lap {ends[number]}: {len(done)} of {len(running)} runs")
            if done:
                left = sum(lap.seconds for lap in done) / len(done) * (len(running) - len(done))
                parts.append(f"about {timedelta(seconds=round(left))} left of it")
    if race.best is not None and race.value is not None:
        parts.append(f"best {short(race.value)} (run {race.best})")
    return "; ".join(parts)
