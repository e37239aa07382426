"""The place where failures of the callback end, so that they harm no training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec

from lightning_nndyn.errors import NNDynError, NNDynWarning

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

P = ParamSpec("P")


class Guard:
    """Takes the steps of a session that may fail. After a failure no further step is taken.

    No step may contain what processes do together: one that has failed would leave the others waiting.

    Args:
        strict: whether to raise instead of warning.
        on_failure: called at once, to remove what the callback has put into the training.

    Attributes:
        error: what has gone wrong on this process; None if nothing has.
    """

    def __init__(self, strict: bool, on_failure: Callable[[], None]) -> None:
        self.error: Exception | None = None
        self._strict, self._on_failure = strict, on_failure

    def attempt(self, trainer: Trainer, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Takes a step, unless one has failed before.

        Raises:
            Exception: the step's own, if strict. With several processes it is raised in `all_work`, on all of
                them: raised here, it would leave the others waiting.
        """
        if self.error is not None:
            return
        try:
            step(*args, **kwargs)
        except Exception as error:  # whatever it is: training must not suffer from it
            self.fail(trainer, error)
            if self._strict and trainer.world_size == 1:
                raise

    def contain(
        self, trainer: Trainer | None, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Does what a hook is for, and lets no failure out that is not to be raised.

        Raises:
            Exception: the step's own, if strict.
        """
        try:
            step(*args, **kwargs)
        except Exception as error:
            self.fail(trainer, error)
            if self._strict:
                raise

    def fail(self, trainer: Trainer | None, error: Exception) -> None:
        """Gives up for a reason; warns of the first one, unless strict.

        Args:
            trainer: of the fit; None where it is not known.
            error: the reason.
        """
        if self.error is not None:
            return
        self.error = error
        self._on_failure()
        if not self._strict:
            _warn(trainer, error)

    def all_work(self, trainer: Trainer) -> bool:
        """Whether no process has failed. All processes must call this."""
        return not trainer.strategy.reduce_boolean_decision(self.error is not None, all=False)

    def raise_if_strict(self) -> None:
        """Raises, where a process has failed.

        Raises:
            Exception: this process' failure, or NNDynError for that of another.
        """
        if self._strict:
            raise self.error or NNDynError("GraphDynamicsCallback failed on another process, see its output")


def _warn(trainer: Trainer | None, error: Exception) -> None:
    where = f" on process {trainer.global_rank}" if trainer is not None and trainer.world_size > 1 else ""
    warnings.warn(
        f"GraphDynamicsCallback gives up{where} and training goes on without it: "
        f"{type(error).__name__}: {error} (strict=True raises instead)",
        NNDynWarning,
        stacklevel=3,
    )
