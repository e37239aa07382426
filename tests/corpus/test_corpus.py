"""The package's own names, which are imported at first use."""

import subprocess
import sys

import pytest
from processes import environment

import lightning_nndyn.corpus as corpus

HEAVY = ("joblib", "lightning", "pyarrow", "sklearn")


@pytest.mark.slow
def test_models_are_there_without_what_corpora_need() -> None:
    code = f"""
import sys
import lightning_nndyn
lightning_nndyn.models.lenet5()
assert not [name for name in {HEAVY} if name in sys.modules]
"""
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


def test_every_name_is_there() -> None:
    assert all(getattr(corpus, name) is not None for name in corpus.__all__)
    assert set(corpus.__all__) <= set(dir(corpus)) and corpus.__all__ == sorted(corpus.__all__, key=_order)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        corpus.nonsense  # noqa: B018


def _order(name: str) -> tuple[bool, bool, str]:
    """Constants first, then classes, then functions."""
    return not name.isupper(), name[0].islower(), name
