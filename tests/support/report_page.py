"""Reads a report's page as a parser and as a browser see it."""

from __future__ import annotations

import html
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from processes import PATIENCE
from requirements import find_program

CHROMIUM = find_program("chromium")
_VOID = {"br", "circle", "input", "link", "meta", "path", "rect"}


class Page(HTMLParser):
    """A page's elements, texts and data.

    Attributes:
        elements: each with its attributes.
        data: what is embedded for the charts.
        scripts: the text of each script and style, with its element's name.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self._texts: list[tuple[tuple[int, ...], str]] = []
        self._ids: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"
        self.data: dict[str, Any] = json.loads(next(text for name, text in self.scripts if name == "script"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)
            self._ids.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes something else"
        self._ids.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            self.scripts.append((self._open[-1], data))
        else:
            self._texts.append((tuple(self._ids), data))

    def text(self, **attributes: str) -> str:
        """All text inside the first element with these attributes."""
        place = self._find(attributes)
        return " ".join("".join(text for ids, text in self._texts if place in ids).split())

    def rows(self, table: str) -> list[list[str]]:
        """The cells of a table's body, by the table's id."""
        inside = self._find({"id": table})
        cells: dict[int, dict[int, str]] = {}
        for ids, text in self._texts:
            row = next((i for i in ids if self.elements[i][0] == "tr"), None)
            cell = next((i for i in ids if self.elements[i][0] in ("td", "th")), None)
            if inside in ids and row is not None and cell is not None:
                cells.setdefault(row, {}).setdefault(cell, "")
                cells[row][cell] += text
        return [list(row.values()) for row in cells.values()][1:]

    def _find(self, attributes: dict[str, str]) -> int:
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return next(i for i, (_, found) in enumerate(self.elements) if wanted.items() <= found.items())


def look(
    page: Path, folder: Path, script: str, width: int = 1200, dark: bool = False
) -> tuple[str, list[str]]:
    """Opens a copy of a page in headless Chromium and runs a script in it.

    Args:
        page: the page.
        folder: for the copy and the browser's profile; a new one.
        script: an expression; its value is what is returned.
        width: that it has, in pixels.
        dark: whether the system prefers dark colours.

    Returns:
        The value, and what was printed on the console.
    """
    assert CHROMIUM is not None
    folder.mkdir()
    # The copy may run what is added to it: the page itself names its scripts by their hashes.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    probe = f"addEventListener('load', () => {{ parent.document.title = 'found:' + ({script}); }});"
    text = text.replace("</body>", f"<script>{probe}</script></body>")
    # In a frame: a headless window is not as narrow as a phone.
    framed = f'<title></title><iframe width="{width}" height="800" srcdoc="{html.escape(text)}"></iframe>'
    (folder / "page.html").write_text(f"<!DOCTYPE html>{framed}")
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--no-first-run", "--enable-logging=stderr"),
        *(f"--user-data-dir={folder / 'profile'}", "--window-size=1300,900", "--dump-dom"),
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        (folder / "page.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    found = re.search(r"<title>found:(.*?)</title>", done.stdout, re.S)
    assert found is not None, done.stdout[:300] + done.stderr[-2000:]
    return html.unescape(found[1]), [line for line in done.stderr.splitlines() if "CONSOLE" in line]
