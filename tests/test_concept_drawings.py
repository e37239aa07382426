"""Drawings of the pages of concepts are those of their script, and every one is shown."""

import re

import concept_drawings
import pytest
from paths import ROOT

PAGES = sorted((ROOT / "docs" / "concepts").glob("*.md"))


@pytest.mark.parametrize("name", concept_drawings.DRAWINGS)
def test_a_drawing_is_that_of_the_script(name: str) -> None:
    text = (concept_drawings.FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert text == concept_drawings.DRAWINGS[name].svg(), "run `make results-pages`"


def test_every_drawing_is_shown() -> None:
    shown = {
        name for page in PAGES for name in re.findall(r"\((\w+)\.svg\)", page.read_text(encoding="utf-8"))
    }
    kept = {file.stem for file in concept_drawings.FOLDER.glob("*.svg")}
    assert shown == kept == set(concept_drawings.DRAWINGS)


def test_the_site_needs_no_drawing_program() -> None:
    assert not any("```mermaid" in page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))
