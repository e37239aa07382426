"""Folders of data sets."""

from pathlib import Path

import pytest

from lightning_nndyn.corpus import run_corpus
from lightning_nndyn.errors import CorpusError


def test_several_data_sets_need_several_folders(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cifar10=FOLDER, imagenet100=FOLDER"):
        run_corpus("zoo", tmp_path, data="images", progress=False)
    with pytest.raises(CorpusError, match=r"'mnist'.*digits, cifar10, imagenet100"):
        run_corpus("zoo", tmp_path, data={"mnist": "images"}, progress=False)
