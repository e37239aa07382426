"""What a user gets: the wheel's contents, and a core that loads none of the optional packages."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from paths import ROOT
from processes import PATIENCE

PACKAGE = ROOT / "lightning_nndyn"
IN_THE_WHEEL = {"cohort.json", "cohort.npz", "curve.json", "curve.npz"} | {
    f"{name}.{ending}" for name in ("lenet5-digits", "universal") for ending in ("json", "skops")
}
_LOGGERS = "tensorboard wandb mlflow"
_MODELS = "timm transformers peft"
_CORPORA = "torchvision torch_scatter pyarrow ray distributed"
OPTIONAL = set(f"{_CORPORA} {_LOGGERS} {_MODELS} matplotlib jsonargparse optuna".split())


def run(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """Run this Python elsewhere and return what it prints; `path` comes first in its search for modules."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def build(target: str, source: Path, folder: Path) -> Path:
    run("-m", "hatchling", "build", "--target", target, "--directory", str(folder), cwd=source)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> set[str]:
    """The files of a wheel, but for its metadata."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def files_under(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"{path.relative_to(folder)}" for path in paths}


def test_wheel_holds_package_and_predictors_and_nothing_else(wheel: Path) -> None:
    code = {f"lightning_nndyn/{name}" for name in files_under(PACKAGE)}
    shipped = {f"lightning_nndyn/pretrained_predictors/{name}" for name in IN_THE_WHEEL}
    examples = {f"lightning_nndyn/examples/{name}" for name in ("sweep.yaml", "sweep_digits.py")}
    assert "lightning_nndyn/py.typed" in code
    assert contents(wheel) == code | shipped | examples
    assert wheel.stat().st_size < 20e6


def test_wheel_from_sdist_is_the_wheel_from_the_repository(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "wheel")
    assert contents(again) == contents(wheel)


def test_installed_package_finds_its_predictors(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    script = (
        "import lightning_nndyn as nd\n"
        "names = nd.list_predictors()\n"
        "for name in names: nd.load_predictor(name)\n"
        "print(nd.__file__, *names, sep='\\n')"
    )
    file, *names = run("-c", script, cwd=tmp_path, path=tmp_path / "installed").splitlines()
    assert Path(file).is_relative_to(tmp_path)
    assert set(names) == {"lenet5-digits", "universal"}


def test_what_the_wheel_lacks_is_told_with_the_way_to_it(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    script = (
        "import lightning_nndyn as nd\n"
        "from lightning_nndyn.corpus import load_corpus\n"
        "from lightning_nndyn.errors import NNDynError\n"
        "for load, name in ((nd.load_predictor, 'vgg7-cifar10'), (load_corpus, 'lenet5-digits')):\n"
        "    try: load(name)\n"
        "    except NNDynError as error: print(error)"
    )
    predictor, corpus = run("-c", script, cwd=tmp_path, path=tmp_path / "installed").splitlines()
    assert "package has lenet5-digits, universal" in predictor and "`nndyn fit`" in predictor
    assert "pretrained_predictors/lenet5-digits.parquet" in corpus
    assert "nndyn corpus train lenet5-digits lenet5-digits" in corpus


def test_command_answers(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("nndyn"), "--help"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert shown.returncode == 0, shown.stderr
    assert "demo" in shown.stdout


def test_core_loads_no_optional_package(tmp_path: Path) -> None:
    """Lightning itself may load some of them; ours must not add to that."""
    script = (
        "import sys, lightning.pytorch, pytorch_lightning\n"
        "before = set(sys.modules)\n"
        "import lightning_nndyn, lightning_nndyn.cli\n"
        f"print(*sorted({OPTIONAL} & (set(sys.modules) - before)))"
    )
    assert run("-c", script, cwd=tmp_path) == ""


def named_extras() -> set[tuple[str, str]]:
    """Where the sources tell a user to install an extra: (file, extra)."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "MissingExtraError":
                values = [*node.args, *(keyword.value for keyword in node.keywords)]
                found.add((path.name, ast.literal_eval(values[1])))
    return found


def test_errors_name_extras_that_exist(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    extras = {line.removeprefix("Provides-Extra: ") for line in lines if line.startswith("Provides-Extra: ")}
    assert named_extras()
    assert {(file, extra) for file, extra in named_extras() if extra not in extras} == set()


def test_what_a_test_needs_is_skipped_nowhere_in_silence() -> None:
    """The Makefile names packages, the script of CI programs. Two packages have targets of their own."""
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("*.py")]
    calls = [one for text in sources for one in re.findall(r'(?:needs|importorskip)\((".*?")\)', text)]
    needed = {name.partition(".")[0] for one in calls for name in re.findall(r'"([\w.:]+)"', one)}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (packages,) = re.findall(r"^TEST_REQUIRES := (.*)$", makefile, re.MULTILINE)
    assert (
        'print("mapie"' in makefile
        and "NNDYN_TEST_REQUIRES=$(TEST_REQUIRES),$(MAPIE),$(TEST_PROGRAMS)" in makefile
    )
    (programs,) = re.findall(r"TEST_PROGRAMS=(\S+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    named = {*packages.split(","), *programs.split(","), "mapie"}
    assert needed - named == {"torch_scatter", "deepspeed"}
