"""The live tables of sweeps and races."""

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console


def test_the_table_shows_the_best_run_and_how_long_it_takes() -> None:
    from datetime import datetime, timedelta

    from lightning_nndyn.study.live_table import sweep_table

    def trial(number: int, state: str, value: float | None) -> Any:
        start = datetime(2026, 1, 1) + timedelta(seconds=10 * number)
        return SimpleNamespace(
            number=number,
            state=SimpleNamespace(name=state, is_finished=lambda: state != "RUNNING"),
            value=value,
            params={"lr": 0.0123},
            intermediate_values={0: 0.1, 2: 0.25},
            user_attrs={"nndyn:reason": "goes on"},
            datetime_start=start,
            datetime_complete=None if state == "RUNNING" else start + timedelta(seconds=10),
        )

    trials = [
        trial(0, "COMPLETE", 0.9),
        *(trial(n, "PRUNED", None) for n in range(1, 14)),
        trial(14, "RUNNING", None),
    ]
    console = Console(width=120, file=io.StringIO())
    console.print(sweep_table(trials, 20, "maximize"))
    text = console.file.getvalue()
    assert "* 0" in text and "lr 0.0123" in text and "0.25" in text
    assert "14 of 20 runs: 1 finished, 13 stopped; best 0.9 (run 0); about 0:01:00 left" in text


def test_in_80_columns_reasons_stand_below_the_table_and_can_be_read() -> None:
    from lightning_nndyn.study.live_table import sweep_table

    reason = "predicted final accuracy 10.2 % (risk 3.49 > 3.32, the threshold that was set) after 1 epoch"
    trial = SimpleNamespace(
        number=3,
        state=SimpleNamespace(name="PRUNED", is_finished=lambda: True),
        value=None,
        params={"learning_rate": 0.0123, "dropout": 0.25, "batch_size": 128},
        intermediate_values={1: 0.102},
        user_attrs={"nndyn:reason": reason},
        datetime_start=None,
        datetime_complete=None,
    )
    console = Console(width=80, file=io.StringIO())
    console.print(sweep_table([trial], 20, "maximize"))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and f"3: {reason}" in " ".join(line.strip() for line in lines)
    assert "learning_rate 0.0123" in console.file.getvalue()
