"""The pages of the site and the README, and the blocks of code in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paths import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(
    r"^(?P<skip><!-- test: skip, (?P<reason>.+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```\n"
    r"(\n```text\n(?P<printed>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: of its fence.
        code: what stands in it.
        line: of the page that the code begins in.
        printed: the block of text that follows with nothing between: what the code prints.
        skipped: why it is not run; empty if it is.
    """

    language: str
    code: str
    line: int
    printed: str
    skipped: str


def blocks(page: Path, language: str) -> Iterator[Block]:
    text = page.read_text()
    for found in _FENCE.finditer(text):
        if found["language"] == language:
            line = text[: found.start("code")].count("\n") + 1
            yield Block(language, found["code"], line, found["printed"] or "", found["reason"] or "")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))
