"""Commands in README and site can be called: `nndyn` parses them, and what they name exists."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from doc_pages import PAGES, blocks, name
from paths import EXAMPLES, ROOT

from lightning_nndyn.cli import app
from lightning_nndyn.study import load_config

COMMANDS = typer.main.get_command(app)


def shell_lines(page: Path) -> Iterator[str]:
    """Lines of shell: in fences, and such as are set apart by four blanks."""
    text = page.read_text().replace("\\\n", " ")
    yield from (
        line for block in blocks(page, "bash") for line in block.code.replace("\\\n", " ").splitlines()
    )
    yield from re.findall(r"^ {4}((?:nndyn|python|make|pip) .*)$", text, re.MULTILINE)


def parse(arguments: list[str]) -> None:
    """Read arguments as `nndyn` does, and stop before the command is called."""
    command, context = COMMANDS, COMMANDS.make_context("nndyn", arguments)
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        word, command, rest = command.resolve_command(context, rest)
        context = command.make_context(word, rest, parent=context)


CALLS = sorted({line for page in PAGES for line in shell_lines(page) if line.startswith("nndyn ")})


@pytest.mark.parametrize("line", CALLS)
def test_nndyn_knows_its_arguments(line: str) -> None:
    try:
        parse(shlex.split(line, comments=True)[1:])
    except SystemExit as done:  # --version
        assert done.code == 0
    except Exception as done:
        assert type(done).__name__ == "Exit" and getattr(done, "exit_code", 1) == 0, done


@pytest.mark.parametrize("line", ["nndyn reprot", "nndyn fit --rnus lightning_logs x", "nndyn report"])
def test_what_is_wrong_is_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"reprot|rnus|[Mm]issing"):
        parse(shlex.split(line)[1:])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_commands_name_exists(page: Path) -> None:
    text = page.read_text()
    for file in re.findall(r"python ((?:examples|benchmarks)/\w+\.py)", text):
        assert (ROOT / file).is_file(), file
    for file in re.findall(r"`((?:examples|tests|benchmarks)/[\w/]+\.\w+)`", text):
        assert (ROOT / file).is_file(), file
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= set(targets)
    extras = re.findall(r"^([a-z-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for line in shell_lines(page):
        for found in re.findall(r"^pip install .*\[([a-z,-]+)\]", line):
            assert set(found.split(",")) <= set(extras), line


YAML = [(page, block.line, block.code) for page in PAGES for block in blocks(page, "yaml")]


@pytest.mark.parametrize(
    ("page", "line", "code"), YAML, ids=[f"{name(page)}:{line}" for page, line, _ in YAML]
)
def test_yaml_is_accepted(page: Path, line: int, code: str, tmp_path: Path) -> None:
    content = yaml.safe_load(code)
    if "train" in content:
        for file in EXAMPLES.glob("sweep_digits.py"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / "sweep.yaml").write_text(code)
        assert load_config(tmp_path / "sweep.yaml").trials == content["trials"]
    else:
        made(content["callback"])


def made(node: dict[str, Any]) -> None:
    """Make what Hydra would."""
    module, _, attribute = node["_target_"].rpartition(".")
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    target = getattr(import_module(module), attribute)
    inspect.signature(target).bind(**arguments)
    target(**arguments)
