"""Where each of Lightning's loggers takes texts and figures.

Loggers are known by the names of their classes, in either of Lightning's namespaces: nothing is imported
for a logger that is not in use.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_nndyn._files import write_atomically
from lightning_nndyn.callback.loggers.figure import RunFigure
from lightning_nndyn.callback.loggers.summary import RunSummary

_PACKAGES = ("lightning", "lightning_fabric", "pytorch_lightning")
_FIGURE = "nndyn/predictions"
_TAG_LENGTH = 5000
"""Characters that every MLflow store takes as a tag's value."""

Backend = Callable[[Any, RunSummary, RunFigure | None, int], None]


def backend_for(logger: Any) -> Backend | None:
    """How to log to a logger of Lightning's or of a class derived from one; None for other loggers."""
    for base in type(logger).__mro__:
        if base.__module__.partition(".")[0] in _PACKAGES and base.__name__ in _BACKENDS:
            return _BACKENDS[base.__name__]
    return None


def _tensorboard(logger: Any, summary: RunSummary, figure: RunFigure | None, step: int) -> None:
    writer = logger.experiment
    writer.add_text("nndyn/decision", summary.text, step)
    if figure is not None:  # not add_figure, which goes through pyplot
        writer.add_image(_FIGURE, figure.pixels(), step, dataformats="HWC")
    logger.save()


def _wandb(logger: Any, summary: RunSummary, figure: RunFigure | None, step: int) -> None:
    logger.experiment.summary.update(summary.facts)
    if figure is not None:
        logger.log_image(_FIGURE, [figure.pixels()], step, caption=[summary.text])


def _mlflow(logger: Any, summary: RunSummary, figure: RunFigure | None, step: int) -> None:
    client, run = logger.experiment, logger.run_id
    for name, value in summary.facts.items():
        client.set_tag(run, name, _cut(str(value)))
    if figure is not None:
        client.log_figure(run, figure.figure, f"nndyn-{summary.run}.png")


def _csv(logger: Any, summary: RunSummary, figure: RunFigure | None, step: int) -> None:
    if "://" in logger.log_dir:  # no folder of this machine
        return
    folder = Path(logger.log_dir)
    write_atomically(folder / f"nndyn-{summary.run}.txt", f"{summary.text}\n".encode())
    if figure is not None:
        figure.figure.savefig(folder / f"nndyn-{summary.run}.png")


def _cut(text: str) -> str:
    return text if len(text) <= _TAG_LENGTH else f"{text[: _TAG_LENGTH - 1]}…"


_BACKENDS: dict[str, Backend] = {
    "TensorBoardLogger": _tensorboard,
    "WandbLogger": _wandb,
    "MLFlowLogger": _mlflow,
    "CSVLogger": _csv,
}
