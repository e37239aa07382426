"""Progress of a corpus: a bar with the remaining time on a terminal, elsewhere a line every half minute."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

_LINE_SECONDS = 30.0


class Progress:
    """Shows how many of the `wanted` runs are `recorded`, by this process or another; a context manager.

    A record of a run in `redo` does not count until that run has been trained again.
    """

    def __init__(
        self,
        name: str,
        wanted: Iterable[int],
        recorded: Callable[[], Iterable[int]],
        redo: Iterable[int] = (),
        *,
        show: bool = True,
    ) -> None:
        """Print nothing yet."""
        self.name, self.wanted, self.recorded, self.redo = name, frozenset(wanted), recorded, set(redo)
        self.total, self.first = len(self.wanted), self.count()
        self.console = _console() if show else None
        self.outcomes: Counter[str] = Counter()
        self.started = self.last_line = time.monotonic()
        self.bar: Bar | None = None

    def count(self) -> int:
        """How many are recorded by now."""
        return len(self.wanted.intersection(self.recorded()) - self.redo)

    def __enter__(self) -> "Progress":
        """Print the first line; on a terminal, start the bar."""
        self.started = self.last_line = time.monotonic()
        self.log(f"{self.name}: {self.first} of {self.total} runs are recorded")
        if self.console is not None and self.console.is_terminal:
            self.bar = _bar(self.console)
            self.row = self.bar.add_task(self.name, total=self.total, completed=self.first, left="")
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the bar and print how it ended."""
        if self.bar is not None:
            self.bar.stop()
        ended = [f"{count} {outcome}" for outcome, count in self.outcomes.items()] or ["nothing to do"]
        self.log(f"{self.name}: {self.count()} of {self.total} runs are recorded ({', '.join(ended)})")

    def advance(self, run: int, outcome: str, recorded: bool) -> None:
        """Count the outcome of one more run, and show it."""
        self.outcomes[outcome] += 1
        if recorded:
            self.redo.discard(run)
        now = time.monotonic()
        if self.bar is not None:
            done = self.count()
            self.bar.update(self.row, completed=done, left=self.remaining(done))
        elif now - self.last_line >= _LINE_SECONDS:
            self.last_line, done = now, self.count()
            gone = timedelta(seconds=round(now - self.started))
            self.log(f"{self.name}: {done}/{self.total} runs, {gone} gone, {self.remaining(done)}")

    def remaining(self, done: int) -> str:
        """The remaining time, from the mean time of the runs so far, of all processes."""
        if done == self.first:
            return ""
        seconds = (time.monotonic() - self.started) / (done - self.first) * (self.total - done)
        return f"{timedelta(seconds=round(seconds))} to go"

    def log(self, message: str) -> None:
        """Print a line."""
        if self.console is not None:
            self.console.print(message)


# Imported late: progress=False works where rich is not installed.
def _console() -> "Console":
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False)


def _bar(console: "Console") -> "Bar":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    text, left = TextColumn("{task.description}"), TextColumn("{task.fields[left]}")
    return Progress(text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), left, console=console)
