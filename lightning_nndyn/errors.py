"""Exceptions and warnings. Every message names the offending value and the way out."""

from __future__ import annotations


class NNDynError(Exception):
    """Base class of all errors raised on purpose by lightning-nndyn."""


class TracingError(NNDynError):
    """The layers of a model could not be joined into a rolled graph."""


class NonFiniteWeightsError(NNDynError):
    """A weight, or a norm of weights, is NaN or infinite."""


class PredictorError(NNDynError):
    """A predictor cannot be fitted, saved, loaded or asked."""


class ArtefactError(PredictorError):
    """A predictor file is missing, damaged, untrusted or of another version."""


class SweepError(NNDynError):
    """A sweep cannot be taken part in, or learned from."""


class CorpusError(NNDynError):
    """A corpus of training runs, or its data set, cannot be read or written."""


class ReportError(NNDynError):
    """There is nothing to report on, or the page cannot be written."""


class MissingExtraError(NNDynError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self._arguments = (package, extra, purpose)
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: "
            f"pip install 'lightning-nndyn[{extra}]'"
        )

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        """Raised in a worker, it is sent to the process that waits for the result."""
        return type(self), self._arguments


class NNDynWarning(UserWarning):
    """Something did not work, and training goes on without it."""
