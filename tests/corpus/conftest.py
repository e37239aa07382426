"""A corpus that tests read and do not change."""

from pathlib import Path

import pytest
from tiny_corpus import run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora") / "tiny"
    run(folder)
    return folder
