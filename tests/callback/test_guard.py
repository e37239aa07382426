"""A failure warns once and ends the callback's work; if strict, it is raised where nobody is left waiting."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lightning_nndyn.callback.guard import Guard
from lightning_nndyn.errors import NNDynError, NNDynWarning


def trainer(world_size: int = 1, failed_elsewhere: bool = False) -> Any:
    strategy = SimpleNamespace(reduce_boolean_decision=lambda failed, all: failed or failed_elsewhere)
    return SimpleNamespace(world_size=world_size, global_rank=world_size - 1, strategy=strategy)


def fail(error: BaseException) -> None:
    raise error


def test_steps_are_taken_with_their_arguments_until_one_fails() -> None:
    taken: list[Any] = []
    guard = Guard(strict=False, on_failure=lambda: taken.append("cleaned up"))
    guard.attempt(trainer(), taken.append, 1)
    with pytest.warns(NNDynWarning, match=r"gives up and training goes on.*KeyError: 'x'") as found:
        guard.attempt(trainer(), fail, KeyError("x"))
        guard.attempt(trainer(), fail, KeyError("y"))
        guard.attempt(trainer(), taken.append, 2)
    assert taken == [1, "cleaned up"] and len(found) == 1
    assert isinstance(guard.error, KeyError) and not guard.all_work(trainer())
    guard.raise_if_strict()


def test_with_several_processes_the_warning_names_the_one() -> None:
    guard = Guard(strict=False, on_failure=lambda: None)
    with pytest.warns(NNDynWarning, match="gives up on process 2"):
        guard.attempt(trainer(world_size=3), fail, OSError("full"))


def test_strict_raises_at_once_in_one_process_and_later_in_several() -> None:
    cleaned: list[bool] = []
    alone, one_of_two = (Guard(strict=True, on_failure=lambda: cleaned.append(True)) for _ in range(2))
    with pytest.raises(KeyError):
        alone.attempt(trainer(), fail, KeyError("x"))
    one_of_two.attempt(trainer(world_size=2), fail, KeyError("x"))
    with pytest.raises(KeyError):
        one_of_two.raise_if_strict()
    assert cleaned == [True, True]


def test_where_another_process_has_failed_this_one_gives_up_too() -> None:
    guard = Guard(strict=True, on_failure=lambda: None)
    assert guard.all_work(trainer(world_size=2))
    assert not guard.all_work(trainer(world_size=2, failed_elsewhere=True))
    with pytest.raises(NNDynError, match="failed on another process"):
        guard.raise_if_strict()


def test_what_is_no_failure_of_ours_goes_through() -> None:
    guard = Guard(strict=False, on_failure=lambda: None)
    with pytest.raises(KeyboardInterrupt):
        guard.attempt(trainer(), fail, KeyboardInterrupt())
    assert guard.error is None
