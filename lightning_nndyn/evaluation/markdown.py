"""Tables as Markdown, and numbers as text."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of these cells."""
    rule = ["---"] * len(header)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines))


def epochs_text(time: float) -> str:
    """A time in epochs, with fractions below one."""
    return f"{time:g}" if time >= 1 or not time else f"1/{round(1 / time)}"


def number(value: float | None, digits: int, scale: float = 1) -> str:
    """A number with so many digits after the point; empty for None."""
    # Zero is added as -0.0 has a sign.
    return "" if value is None else f"{round(scale * value, digits) + 0.0:.{digits}f}"
