"""The checkpoints of a race's paused runs, in a folder beside the race's file."""

from __future__ import annotations

import shutil
from pathlib import Path

from lightning_nndyn._files import TEMPORARY


class RaceCheckpoints:
    """The files of paused runs.

    A run's checkpoint is deleted only after the result of its next lap is on disk: a process that is killed
    in between finds it.

    Args:
        file: of the race. Only the process that has it open may make these.
    """

    def __init__(self, file: Path) -> None:
        self.folder = file.with_name(f"{file.name}.checkpoints")
        for part in self.folder.glob(f"{TEMPORARY}*"):  # of a killed process
            part.unlink(missing_ok=True)

    def path(self, candidate: int, rung: int) -> Path:
        """Where a candidate is saved that is paused at a rung."""
        return self.folder / f"candidate{candidate}-rung{rung}.ckpt"

    def latest(self, candidate: int, rung: int) -> Path | None:
        """Where a candidate has been saved last before a rung; None if nowhere."""
        paths = [self.path(candidate, before) for before in reversed(range(rung))]
        return next((path for path in paths if path.exists()), None)

    def delete_before(self, candidate: int, rung: int) -> None:
        """Delete a candidate's checkpoints of the rungs before one."""
        while (path := self.latest(candidate, rung)) is not None:
            path.unlink()

    def delete(self) -> None:
        """Delete all."""
        shutil.rmtree(self.folder, ignore_errors=True)
