"""One sweep for all tests of the report, and its page."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_page import Page
from report_runs import write_recorded

from lightning_nndyn.evaluation.report import write_report


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven runs that were observed, one that was stopped, one that an audit has spared."""
    return write_recorded(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def file(sweep: Path) -> Path:
    return write_report([sweep / "lightning_logs"], sweep / "report.html", title="Digits").file


@pytest.fixture(scope="module")
def page(file: Path) -> Page:
    return Page(file.read_text())
