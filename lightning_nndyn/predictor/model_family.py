"""What is fitted at each decision time: the interface of the forests and of the paper's models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from lightning_nndyn.predictor.history import HistoryByEpoch
from lightning_nndyn.predictor.learning_curve import LearningCurve
from lightning_nndyn.predictor.training_set import Targets
from lightning_nndyn.signature.snapshot import Array


class FittedModel(ABC):
    """A model of one decision time."""

    importances: Array | None = None
    """How much the prediction depends on each column of a row, shape [columns]; None if that is not known."""

    @abstractmethod
    def __call__(self, x: Array) -> tuple[Array, Array | None]:
        """Predict for rows [n, columns].

        Returns:
            Shape [n, 3]: a value that is larger for low runs, final accuracy, relative accuracy (NaN if that
            is not predicted). And a second prediction of the same shape to average with it, or None.
        """

    @abstractmethod
    def to_plain(self) -> dict[str, Any]:
        """What `ModelFamily.restore` makes the same model of."""


class ModelFamily(ABC):
    """How histories and learning curves become rows of numbers, and what is fitted to the rows."""

    kinds: ClassVar[tuple[str, ...]]
    """The kinds of models that there are: from the weights alone, from weights and learning curve."""

    reads_layers: ClassVar[bool]
    """Whether snapshots must hold the numbers of each layer."""

    @property
    @abstractmethod
    def statistics(self) -> Sequence[int]:
        """Indices into `STATISTICS` of those that must be alike before training (the predictor's domain)."""

    @property
    @abstractmethod
    def card_settings(self) -> dict[str, Any]:
        """The family's entries in a predictor's card."""

    @abstractmethod
    def series(self, times: Iterable[float]) -> list[tuple[float, ...]]:
        """The series of snapshot times that get a model of their own; the last is the time of decision."""

    @abstractmethod
    def row(self, history: HistoryByEpoch, times: Sequence[float], curve: LearningCurve | None) -> Array:
        """A run as numbers, shape [columns].

        Args:
            history: must hold epoch 0 and all of `times`.
            times: one of the series.
            curve: what the run has logged; None for models that read the weights alone.
        """

    @abstractmethod
    def fit(self, x: Array, targets: Targets, times: Sequence[float], kind: str) -> FittedModel:
        """Fit a model to rows [n, columns] of the series `times`."""

    @abstractmethod
    def restore(self, plain: Mapping[str, Any], times: Sequence[float], kind: str) -> FittedModel:
        """The inverse of `FittedModel.to_plain`, for a model of the series `times`.

        Raises:
            KeyError, TypeError, ValueError: `plain` is from a file, and a part of it is missing or unfit.
        """

    @abstractmethod
    def width(self, times: Sequence[float], kind: str) -> int:
        """How many columns a row has."""
