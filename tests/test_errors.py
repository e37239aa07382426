"""Renamed arguments keep their old names for one release."""

import inspect
from dataclasses import dataclass

import pytest

from lightning_nndyn.errors import renamed_arguments


@renamed_arguments(said="on_progress")
def fit(runs: int, *, on_progress: str = "silent") -> tuple[int, str]:
    return runs, on_progress


@renamed_arguments(bar="threshold")
@dataclass(frozen=True)
class Rule:
    threshold: float = 0.5


class Reader:
    @renamed_arguments(look="read_at")
    def __init__(self, read_at: float) -> None:
        self.read_at = read_at


def test_new_names_warn_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    assert fit(3, on_progress="loud") == (3, "loud")
    assert Rule(threshold=0.2).threshold == Rule(0.2).threshold == 0.2
    assert Reader(read_at=1.0).read_at == 1.0
    assert not recwarn.list


def test_an_old_name_works_and_warns_where_it_is_used() -> None:
    with pytest.warns(
        DeprecationWarning, match=r"fit.*: the argument 'said' is now called 'on_progress'"
    ) as caught:
        assert fit(3, said="loud") == (3, "loud")  # type: ignore[call-arg]
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="Rule"):
        assert Rule(bar=0.2).threshold == 0.2  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match=r"Reader.__init__"):
        assert Reader(look=1.0).read_at == 1.0  # type: ignore[call-arg]


def test_both_names_at_once_are_an_error() -> None:
    with pytest.raises(TypeError, match="both 'on_progress' and its old name 'said'"):
        fit(3, on_progress="loud", said="loud")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        fit(3, other=1)  # type: ignore[call-arg]


def test_signatures_show_the_new_names_alone() -> None:
    assert list(inspect.signature(fit).parameters) == ["runs", "on_progress"]
    assert list(inspect.signature(Rule).parameters) == ["threshold"]
    assert list(inspect.signature(Reader).parameters) == ["read_at"]
