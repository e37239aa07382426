"""Pages of results hold what the rows give, and show every figure that is kept."""

import re
from pathlib import Path

import pytest
import result_pages
from paths import ROOT

pytestmark = pytest.mark.needs("pyarrow")

PAGES = [*sorted((ROOT / "docs" / "results").glob("*.md")), ROOT / "docs" / "comparison.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_rows(page: Path) -> None:
    text = page.read_text()
    assert result_pages.filled(text) == text, "run `make results-pages`"


def test_every_table_and_every_figure_is_shown() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert set(re.findall(r"<!-- table (\S+) -->", text)) == set(result_pages.TABLES)
    figures = {file.name for file in (ROOT / "docs" / "results").glob("*.svg")}
    assert figures == set(re.findall(r"\((\w+\.svg)\)", text))


@pytest.mark.needs("matplotlib")
def test_the_command_writes_pages_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_pages, "PAGES", tmp_path)
    (tmp_path / "index.md").write_text("# Results\n\n<!-- table cohort -->\nold\n<!-- end -->\n\nText.\n")
    result_pages.main([tmp_path / "index.md"])
    text = (tmp_path / "index.md").read_text()
    assert "| `keep=0.08`, the default | 29 |" in text and "old" not in text and text.endswith("\n\nText.\n")
    assert {file.name for file in tmp_path.glob("*.svg")} == {
        file.name for file in (ROOT / "docs" / "results").glob("*.svg")
    }
