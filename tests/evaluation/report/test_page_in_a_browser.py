"""The page of `nndyn report` in headless Chromium: it fits, and its tables and links work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_page import Page, look

pytestmark = pytest.mark.needs("program:chromium")


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_has_nothing_to_complain_of(file: Path, tmp_path: Path, width: int, dark: bool) -> None:
    script = (
        "[document.documentElement.scrollWidth <= innerWidth, innerWidth, "
        "matchMedia('(prefers-color-scheme: dark)').matches, "
        "document.querySelectorAll('figure svg[role=img][aria-label]').length]"
    )
    found, console = look(file, tmp_path / "browser", script, width, dark)
    fits, inner, theme, charts = found.split(",")
    assert console == [] and (fits, inner, theme) == ("true", str(width), str(dark).lower())
    assert int(charts) == 14, "curves, forecast, ten of the signature, layers, one run"


def test_tables_are_sorted_and_filtered_from_the_keyboard(file: Path, tmp_path: Path) -> None:
    script = (
        "(() => {"
        "const rows = () => [...document.querySelectorAll('#ledger-table tbody tr:not([hidden])')];"
        "const values = () => rows().map((row) => row.cells[5].dataset.value);"
        "const head = document.querySelectorAll('#ledger-table th')[5];"
        "const filter = document.getElementById('ledger-filter');"
        "head.querySelector('button').click(); const up = values(); head.querySelector('button').click();"
        "filter.value = 'unknown'; filter.dispatchEvent(new Event('change'));"
        "return JSON.stringify([up, rows().length, head.getAttribute('aria-sort')]); })()"
    )
    found, console = look(file, tmp_path / "browser", script)
    up, left, order = json.loads(found)
    assert console == [] and [float(value) for value in up] == sorted(float(value) for value in up)
    assert (left, order) == (1, "descending")


def test_a_link_in_the_ledger_leads_to_its_run(file: Path, tmp_path: Path) -> None:
    script = (
        "(() => { location.hash = '#run-2'; window.dispatchEvent(new Event('hashchange'));"
        "return [document.activeElement.id, document.getElementById('run-heading').textContent,"
        "document.querySelector('tr.chosen').id]; })()"
    )
    found, console = look(file, tmp_path / "browser", script)
    label = Page(file.read_text()).data["runs"][2]["label"]
    assert console == [] and found.split(",") == ["run-heading", f"Run {label}", "row-2"]
