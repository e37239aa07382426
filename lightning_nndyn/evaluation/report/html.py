"""HTML made of nested calls: text is escaped, unless it is HTML already."""

from __future__ import annotations

import html
from collections.abc import Iterable


class Html(str):
    """Text that is HTML; only `tag` and `join` make it of other text."""

    __slots__ = ()


_VOID = ("br", "input", "link", "meta")
_EMPTY = ("circle", "path", "rect")


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element.

    Args:
        name: of the element.
        children: inside it, one after the other.
        attributes: by name, in which ``_`` stands for ``-``; a trailing one, as of ``class_``, is dropped.
            None and False leave an attribute out.
    """
    shown = "".join(
        _attribute(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{shown}>")
    if name in _EMPTY:
        return Html(f"<{name}{shown}/>")
    return Html(f"<{name}{shown}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Html:
    """One after the other, None left out."""
    return Html("".join(escape(child) for child in children if child is not None))


def escape(child: object) -> Html:
    """Text as HTML."""
    return child if isinstance(child, Html) else Html(html.escape(str(child)))


def _attribute(name: str, value: object) -> str:
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
