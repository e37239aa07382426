"""The import contract in pyproject.toml bites: forbidden imports, planted in an empty package, are found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
MODULES = (
    "errors models graph tracing centrality signature predictor/artefact policy callback corpus/data "
    "corpus/runner integrations/optuna evaluation/folds cli"
)
EVERYTHING = "from lightning_nndyn import callback, models, signature, tracing"

ONE_WAY = "One way only"
ANY_NETWORK = "The core takes any network"
MEASURES = "A corpus measures"
LIGHTNING = "import Lightning"
SKLEARN = "imports scikit-learn and skops"
TORCHVISION = "does without torchvision"


def broken_contracts(folder: Path, planted: dict[str, str]) -> list[str]:
    """The contracts that a package of our name breaks; its modules are empty but for what is planted."""
    sources = {f"{module}.py": "" for module in MODULES.split()} | {"__init__.py": EVERYTHING} | planted
    for module, source in sources.items():
        path = folder / "lightning_nndyn" / module
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(source)
    shutil.copy(PYPROJECT, folder)
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    broken = [line for line in done.stdout.splitlines() if "BROKEN" in line]
    assert "Contracts:" in done.stdout, done.stdout + done.stderr
    assert (done.returncode == 0) == (not broken)
    return broken


def test_allowed_imports_pass(tmp_path: Path) -> None:
    planted = {
        "callback.py": "import lightning.pytorch, pytorch_lightning\nfrom lightning_nndyn import policy",
        "predictor/artefact.py": "import skops.io, sklearn",
        "corpus/data.py": "from sklearn.datasets import load_digits\nimport torchvision",
        "models.py": "def resnet50():\n    import torchvision",
        "cli.py": "from lightning_nndyn import callback, corpus, models, predictor",
        "integrations/optuna.py": "import optuna, lightning\nfrom lightning_nndyn import policy",
        "evaluation/folds.py": "from lightning_nndyn import corpus, policy, predictor",
    }
    assert broken_contracts(tmp_path, planted) == []


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("graph.py", "from lightning_nndyn.tracing import rolled_graph", ONE_WAY),
        ("policy.py", "def late():\n    from lightning_nndyn import callback", ONE_WAY),
        ("graph.py", "import lightning_nndyn", ONE_WAY),  # the package's own names come from above
        ("evaluation/folds.py", "from lightning_nndyn import cli", ONE_WAY),
        ("integrations/optuna.py", "from lightning_nndyn import callback", ONE_WAY),
        ("brand_new.py", "import torch", ONE_WAY),  # every module needs a place in the order
        ("tracing.py", "from lightning_nndyn import models", ANY_NETWORK),
        ("corpus/runner.py", "from lightning_nndyn.predictor import Predictor", MEASURES),
        ("predictor/artefact.py", "import pytorch_lightning", LIGHTNING),
        ("corpus/runner.py", "import lightning.pytorch as pl", LIGHTNING),
        ("policy.py", "from sklearn.svm import SVC", SKLEARN),
        ("corpus/data.py", "import skops.io", SKLEARN),
        ("signature.py", "def late():\n    import torchvision", TORCHVISION),
    ],
)
def test_forbidden_import_breaks_its_contract(tmp_path: Path, module: str, line: str, contract: str) -> None:
    assert any(contract in broken for broken in broken_contracts(tmp_path, {module: line}))
