"""Exceptions and warnings. Every message names the offending value and the way out."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

_Renamed = TypeVar("_Renamed", bound=Callable[..., Any])


class NNDynError(Exception):
    """Base class of the errors that lightning-nndyn raises on purpose."""


class TracingError(NNDynError):
    """The layers of a model could not be joined into a rolled graph."""


class NonFiniteWeightsError(NNDynError):
    """A weight, or a norm of weights, is NaN or infinite."""


class PredictorError(NNDynError):
    """A predictor cannot be fitted, saved, loaded or used."""


class ArtefactError(PredictorError):
    """A predictor file is missing, damaged, untrusted or of another version."""


class SweepError(NNDynError):
    """A run cannot take part in a sweep, or nothing can be learned from its runs."""


class CorpusError(NNDynError):
    """A corpus of training runs, or its data set, cannot be read or written."""


class ReportError(NNDynError):
    """There is nothing to report, or the page cannot be written."""


class MissingExtraError(NNDynError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self._arguments = (package, extra, purpose)
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: "
            f"pip install 'lightning-nndyn[{extra}]'"
        )

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        """Pickled when raised in a worker process: the message alone would not rebuild the exception."""
        return type(self), self._arguments


class NNDynWarning(UserWarning):
    """Something failed, and training goes on without it."""


def renamed_arguments(**new_names: str) -> Callable[[_Renamed], _Renamed]:
    """Decorator: keyword arguments are also accepted under their old names, for one release.

    Works on functions, methods and classes (dataclasses too)::

        @renamed_arguments(said="on_progress")
        def fit(*, on_progress=None): ...

    Args:
        new_names: the old name of each argument, with its new name as the value.

    Returns:
        The decorator. What it returns warns with a DeprecationWarning when an old name is used, and raises a
        TypeError when both are.
    """

    def decorate(target: _Renamed) -> _Renamed:
        function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for old in new_names.keys() & kwargs.keys():
                new = new_names[old]
                if new in kwargs:
                    raise TypeError(f"{target.__qualname__}() got both {new!r} and its old name {old!r}")
                message = f"{target.__qualname__}(): the argument {old!r} is now called {new!r}"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        if not isinstance(target, type):
            return cast(_Renamed, wrapper)
        target.__init__ = wrapper  # type: ignore[misc]
        return target

    return decorate
