"""The notebooks of examples/ run from a fresh clone, and what they show is stored in them."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from paths import EXAMPLES

NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.mark.needs("matplotlib", "optuna")
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_it_runs(file: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources=where
    ).execute()  # raises what fails
    assert kinds_of_output(notebook) == kinds_of_output(nbformat.read(file, as_version=4))


def kinds_of_output(notebook: nbformat.NotebookNode) -> list[tuple[str, ...]]:
    """Of each cell: text, pictures."""
    cells = [cell.get("outputs", []) for cell in notebook.cells]
    return [
        tuple("image" if "image/png" in one.get("data", {}) else one.output_type for one in cell)
        for cell in cells
    ]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_pictures_are_stored_and_no_path_of_a_machine(file: Path) -> None:
    text = file.read_text()
    assert "image/png" in text and "site-packages" not in text and '"error"' not in text
