"""Members of sweeps, also those that were written for an earlier release."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from lightning_nndyn.sweep import Reading, SweepMember


class Member(SweepMember):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def runs(self) -> list[Any]:
        return []

    def report(self, reading: Reading, facts: Any) -> None:
        self.calls.append(reading.time)

    def finish(self, stopped: bool, reason: str) -> None:
        self.calls.append(reason)


def test_a_member_is_reachable_and_shares_nothing_unless_it_says_otherwise() -> None:
    first, second = Member(), Member()
    first.shared["key"] = 1
    assert first.reachable and first.pruned() is None and first.shared == {"key": 1} and second.shared == {}


def test_old_names_call_the_new_methods() -> None:
    member: Any = Member()
    with pytest.warns(DeprecationWarning, match=r"Member\.note is now called report"):
        member.note(Reading(0.5), {})
    with pytest.warns(DeprecationWarning, match=r"Member\.end is now called finish"):
        member.end(True, "because")
    with pytest.warns(DeprecationWarning):
        assert member.check() is None and member.present
    assert member.calls == [0.5, "because"]
    with pytest.raises(AttributeError, match="'Member' object has no attribute 'other'"):
        member.other  # noqa: B018


def test_a_member_that_implements_the_old_names_works() -> None:
    with pytest.warns(DeprecationWarning) as warned:

        class Old(SweepMember):
            present = False

            def runs(self) -> list[Any]:
                return []

            def note(self, reading: Reading, facts: Any) -> None:
                self.time = reading.time

            def end(self, stopped: bool, reason: str) -> BaseException:
                return ValueError(reason)

    assert len(warned) == 3 and warned[0].filename == __file__
    member = Old()  # type: ignore[abstract]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        member.report(Reading(0.25), {})
        assert member.time == 0.25 and str(member.finish(True, "because")) == "because"
        assert not member.reachable
