"""Links of the files at the top lead somewhere, also from PyPI; MkDocs checks those inside the site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_pages import DOCS
from paths import ROOT

SOURCE = "https://github.com/lightning-nndyn/lightning-nndyn/blob/main/"
RAW = "https://raw.githubusercontent.com/lightning-nndyn/lightning-nndyn/main/"
SITE = "https://lightning-nndyn.github.io/lightning-nndyn/"
FILES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as MkDocs makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", title.lower()).strip() for title in titles)
    return {re.sub(r"[\s-]+", "-", title) for title in plain}


def leads_somewhere(link: str) -> bool:
    address, _, anchor = link.partition("#")
    for start in (SOURCE, RAW):
        if address.startswith(start):
            return (ROOT / address.removeprefix(start)).is_file()
    if not address.startswith(SITE):
        return address.startswith("https://")
    path = address.removeprefix(SITE).strip("/")
    pages = [page for page in (DOCS / f"{path}.md", DOCS / path / "index.md") if path and page.is_file()]
    pages = pages or ([DOCS / "index.md"] if not path else [])
    return bool(pages) and (not anchor or anchor in anchors(pages[0]))


@pytest.mark.parametrize("file", FILES)
def test_links_lead_somewhere(file: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / file).read_text())
    assert [link for link in links if not leads_somewhere(link)] == []


@pytest.mark.parametrize(
    "link", ["docs/index.md", f"{SITE}nowhere/", f"{SOURCE}NOTHING.md", f"{SITE}start/install/#nothing"]
)
def test_a_link_that_leads_nowhere_is_noticed(link: str) -> None:
    assert not leads_somewhere(link)


def test_the_readme_is_short_and_shows_a_picture() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 80 and f"]({RAW}docs/predictions.png)" in text
