"""The import contract in pyproject.toml bites: forbidden imports, planted in an empty package, are found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

PYPROJECT = ROOT / "pyproject.toml"
MODULES = (
    "errors graph/rolled graph/tracing/tracer signature/reader predictor/persistence predictor/policy "
    "callback corpus/models corpus/training/data corpus/runner integrations/optuna evaluation/folds cli"
)
EVERYTHING = (
    "from lightning_nndyn import callback, graph, signature\nfrom lightning_nndyn.corpus import models"
)

ONE_WAY = "One way only"
USERS = "What users run"
GRAPH = "Inside graph"
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
        "callback.py": "import lightning.pytorch, pytorch_lightning\nfrom lightning_nndyn import predictor",
        "predictor/persistence.py": "import skops.io, sklearn",
        "corpus/training/data.py": "from sklearn.datasets import load_digits\nimport torchvision",
        "corpus/models.py": "def resnet50():\n    import torchvision",
        "cli.py": "from lightning_nndyn import callback, corpus, predictor",
        "integrations/optuna.py": "import optuna, lightning\nfrom lightning_nndyn.predictor import policy",
        "evaluation/folds.py": "from lightning_nndyn import corpus, predictor",
    }
    assert broken_contracts(tmp_path, planted) == []


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("graph/rolled.py", "from lightning_nndyn.signature.snapshot import Snapshot", ONE_WAY),
        ("predictor/policy.py", "def late():\n    from lightning_nndyn import callback", ONE_WAY),
        ("graph/rolled.py", "import lightning_nndyn", ONE_WAY),  # the package's own names come from above
        ("evaluation/folds.py", "from lightning_nndyn import cli", ONE_WAY),
        ("integrations/optuna.py", "from lightning_nndyn import callback", ONE_WAY),
        ("brand_new.py", "import torch", ONE_WAY),  # every module needs a place in the order
        ("graph/tracing/tracer.py", "from lightning_nndyn.corpus import models", USERS),
        ("callback.py", "def late():\n    from lightning_nndyn.evaluation import folds", USERS),
        ("study/run.py", "from lightning_nndyn.corpus import models", USERS),
        ("graph/rolled.py", "from lightning_nndyn.graph.tracing import tracer", GRAPH),
        ("graph/sharding.py", "from lightning_nndyn.graph import rolled", GRAPH),
        ("graph/brand_new.py", "import torch", GRAPH),
        ("corpus/runner.py", "from lightning_nndyn.predictor import Predictor", MEASURES),
        ("predictor/persistence.py", "import pytorch_lightning", LIGHTNING),
        ("corpus/runner.py", "import lightning.pytorch as pl", LIGHTNING),
        ("signature/reader.py", "from sklearn.svm import SVC", SKLEARN),
        ("corpus/training/data.py", "import skops.io", SKLEARN),
        ("signature/reader.py", "def late():\n    import torchvision", TORCHVISION),
    ],
)
def test_forbidden_import_breaks_its_contract(tmp_path: Path, module: str, line: str, contract: str) -> None:
    assert any(contract in broken for broken in broken_contracts(tmp_path, {module: line}))
