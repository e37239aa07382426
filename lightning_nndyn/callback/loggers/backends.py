"""Where each of Lightning's loggers takes words and pictures.

They are known by the names of their classes, in either of Lightning's namespaces: nothing is imported for a
logger that is not in use.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_nndyn.callback.loggers.figure import Picture
from lightning_nndyn.callback.loggers.summary import Story

_PACKAGES = ("lightning", "lightning_fabric", "pytorch_lightning")
_PICTURE = "nndyn/predictions"
_TAG_LENGTH = 5000
"""Characters that every MLflow store takes as a tag's value."""

Way = Callable[[Any, Story, Picture | None, int], None]


def way_to(logger: Any) -> Way | None:
    """How to tell a logger of Lightning's, or of a class derived from one; None if it is of another kind."""
    for base in type(logger).__mro__:
        if base.__module__.partition(".")[0] in _PACKAGES and base.__name__ in _WAYS:
            return _WAYS[base.__name__]
    return None


def _tensorboard(logger: Any, story: Story, picture: Picture | None, step: int) -> None:
    writer = logger.experiment
    writer.add_text("nndyn/decision", story.text, step)
    if picture is not None:  # not add_figure, which goes through pyplot
        writer.add_image(_PICTURE, picture.pixels(), step, dataformats="HWC")
    logger.save()


def _wandb(logger: Any, story: Story, picture: Picture | None, step: int) -> None:
    logger.experiment.summary.update(story.facts)
    if picture is not None:
        logger.log_image(_PICTURE, [picture.pixels()], step, caption=[story.text])


def _mlflow(logger: Any, story: Story, picture: Picture | None, step: int) -> None:
    client, run = logger.experiment, logger.run_id
    for name, value in story.facts.items():
        client.set_tag(run, name, _cut(str(value)))
    if picture is not None:
        client.log_figure(run, picture.figure, f"nndyn-{story.run}.png")


def _csv(logger: Any, story: Story, picture: Picture | None, step: int) -> None:
    if "://" in logger.log_dir:  # no folder of this machine
        return
    folder = Path(logger.log_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"nndyn-{story.run}.txt").write_text(f"{story.text}\n")
    if picture is not None:
        picture.figure.savefig(folder / f"nndyn-{story.run}.png")


def _cut(text: str) -> str:
    return text if len(text) <= _TAG_LENGTH else f"{text[: _TAG_LENGTH - 1]}…"


_WAYS: dict[str, Way] = {
    "TensorBoardLogger": _tensorboard,
    "WandbLogger": _wandb,
    "MLFlowLogger": _mlflow,
    "CSVLogger": _csv,
}
