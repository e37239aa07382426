"""Where things lie in the repository."""

from pathlib import Path

SUPPORT = Path(__file__).parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent
EXAMPLES = ROOT / "examples"
PRETRAINED = ROOT / "pretrained_predictors"
CORPORA = ROOT / "corpora"
