"""Shows in the dashboards of a Trainer's loggers how a run was judged, once it has ended.

`summary` says what there is to show, `figure` draws it, and `backends` knows where each logger takes it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from lightning_nndyn.callback.loggers.backends import backend_for
from lightning_nndyn.callback.loggers.figure import RunFigure, draw
from lightning_nndyn.callback.loggers.summary import RunSummary
from lightning_nndyn.errors import NNDynWarning

__all__ = ["RunSummary", "log_summary"]


def log_summary(loggers: Sequence[Any], summary: RunSummary, step: int) -> None:
    """Gives a summary, and a figure of it where matplotlib is installed, to each logger that is known.

    A logger that fails warns, and the others get theirs. Nothing is logged of an empty summary.

    Args:
        loggers: the Trainer's, on its first process.
        summary: of the run.
        step: the loggers' x axis.
    """
    if summary.is_empty:
        return
    known = [(logger, log) for logger in loggers if (log := backend_for(logger)) is not None]
    figure = _figure(summary) if known else None
    for logger, log in known:
        try:
            log(logger, summary, figure, step)
        except Exception as error:  # whatever it is: the run must not suffer from it
            _warn(f"tell {type(logger).__name__} how this run was judged", error)


def _figure(summary: RunSummary) -> RunFigure | None:
    try:
        return draw(summary)
    except ImportError:  # without the extra `plots` there are words
        return None
    except Exception as error:
        _warn("draw its predictions", error)
        return None


def _warn(work: str, error: Exception) -> None:
    warnings.warn(
        f"GraphDynamicsCallback cannot {work} ({type(error).__name__}: {error}); all else goes on",
        NNDynWarning,
        stacklevel=3,
    )
