"""Blocks of Python in README and site run, page by page, and print what stands below them."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from cohorts import random_runs
from doc_pages import DOCS, PAGES, blocks, name
from doc_setup import names

WITH_CODE = [page for page in PAGES if any(blocks(page, "python"))]
OPTIONAL = ("optuna", "ray", "torchvision")


def code_of(page: Path) -> str:
    return "".join(block.code for block in blocks(page, "python"))


def needs(page: Path) -> list[str]:
    """Optional packages that a page's code imports; a trial is Optuna's."""
    code = code_of(page)
    found = [module for module in OPTIONAL if re.search(rf"^\s*(from|import) \S*\b{module}\b", code, re.M)]
    return found + (["optuna"] if "trial=trial" in code else [])


def further_names(page: Path) -> dict[str, Any]:
    code = code_of(page)
    found: dict[str, Any] = {}
    if "trial=trial" in code:
        import optuna

        found["trial"] = optuna.create_study(direction="maximize").ask()
    if "rank(runs)" in code:
        found["runs"] = random_runs(5)
    return found


def page_of(page: Path) -> Any:
    return pytest.param(page, id=name(page), marks=pytest.mark.needs(*needs(page)))


@pytest.mark.parametrize("page", [page_of(page) for page in WITH_CODE])
def test_blocks_run_and_print_what_is_said(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    namespace = {**names(), **further_names(page)}
    for block in blocks(page, "python"):
        if block.skipped:
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), namespace)
        assert printed.getvalue().endswith(block.printed), (
            f"{name(page)}:{block.line}"
        )  # after Lightning's tables
    if page == DOCS / "start" / "first-run.md":
        check_messages(caplog.text)


def check_messages(said: str) -> None:
    """Of the first run, which README and two pages quote: last digits may differ."""
    assert re.search(r"stops this run: predicted final accuracy \d+\.\d % \(risk \d\.\d+ > 2\.76, ", said)
    for page in (PAGES[0], DOCS / "start" / "first-run.md"):
        (line, *_) = re.findall(r"GraphDynamicsCallback: reads .*?; record: ", page.read_text())
        assert line in said, name(page)


def test_few_blocks_are_skipped() -> None:
    skipped = [block for page in WITH_CODE for block in blocks(page, "python") if block.skipped]
    assert len(skipped) <= 3


def test_a_block_that_prints_something_else_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n```python\nprint(2)\n```\n\n```text\n3\n```\n")
    (block,) = blocks(page, "python")
    assert (block.code, block.printed, block.line) == ("print(2)\n", "3\n", 4)
