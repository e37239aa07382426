"""What may happen to one field of a file: it is gone, or holds something else."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

VALUES: list[Any] = [
    None, "text", "", 10**400, -(10**400), -1, 0, 1e300, math.nan, math.inf, True, [], {}, [[[[]]]],
    {"a": None}, [None], ["x"], 0.5,
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something may be mutated: each key of a dict, the first and the last of a list's elements."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    else:
        keys = sorted({0, len(value) - 1}) if isinstance(value, list) and value else []
    for key in keys:
        yield (*path, key)
        yield from places(value[key], (*path, key))


def mutations(value: Any) -> Iterator[tuple[str, Any]]:
    """Every mutation of one field, with a name."""
    for path in places(value):
        for number, new in enumerate([KeyError, *VALUES]):
            name = "gone" if new is KeyError else f"{VALUES[number - 1]!r}"[:20]
            yield f"{'.'.join(map(str, path))} {name}", mutated(value, path, new)


def mutated(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with another field; it shares what lies beside the path: thousands of copies take long."""
    changed, (key, *rest) = copy.copy(value), path
    if rest:
        changed[key] = mutated(value[key], tuple(rest), new)
    elif new is KeyError:
        del changed[key]
    else:
        changed[key] = copy.deepcopy(new)
    return changed
