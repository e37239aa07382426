"""Shows in the dashboards of a Trainer's loggers how a run was judged, once it has ended.

`story` is what there is to tell, `picture` draws it, and `loggers` knows where each dashboard wants it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from lightning_nndyn.callback.loggers.backends import way_to
from lightning_nndyn.callback.loggers.figure import Picture, draw
from lightning_nndyn.callback.loggers.summary import Story
from lightning_nndyn.errors import NNDynWarning

__all__ = ["Story", "show"]


def show(loggers: Sequence[Any], story: Story, step: int) -> None:
    """Gives the story, and a picture of it where matplotlib is there, to each logger that is known.

    A logger that fails warns, and the others get theirs.

    Args:
        loggers: the Trainer's, on its first process.
        story: of the run.
        step: the loggers' x axis.
    """
    known = [(logger, way) for logger in loggers if (way := way_to(logger)) is not None]
    picture = _picture(story) if known else None
    for logger, way in known:
        try:
            way(logger, story, picture, step)
        except Exception as error:  # whatever it is: the run must not suffer from it
            _warn(f"tell {type(logger).__name__} how this run was judged", error)


def _picture(story: Story) -> Picture | None:
    try:
        return draw(story)
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
