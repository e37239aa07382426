"""What the site's pages take from the program itself."""

import subprocess
import sys
from typing import Any

COMMANDS = "<!-- nndyn --help -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the help of all commands in place of its mark, as Typer writes it in Markdown."""
    if COMMANDS not in markdown:
        return markdown
    command = [sys.executable, "-m", "typer", "lightning_nndyn.cli", "utils", "docs", "--name", "nndyn"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return markdown.replace(COMMANDS, done.stdout.partition("\n")[2])
