"""Messages to the user: each topic once in a run, from the first process."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn

from lightning_nndyn.errors import NNDynWarning


class Messages:
    """Prints and warns, each topic once.

    Args:
        verbose: whether to print what is not a warning.
    """

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._topics: set[str] = set()

    def info(self, topic: str, message: str) -> None:
        """Prints a message; nothing where it is empty."""
        if self._verbose and message and self._is_new(topic):
            rank_zero_info(f"GraphDynamicsCallback: {message}")

    def warn(self, topic: str, message: str) -> None:
        """Warns; of nothing where the message is empty."""
        if message and self._is_new(topic):
            rank_zero_warn(f"GraphDynamicsCallback: {message}", category=NNDynWarning)

    def _is_new(self, topic: str) -> bool:
        new = topic not in self._topics
        self._topics.add(topic)
        return new


def unknown_beginning(step: int) -> str:
    """A run is resumed whose beginning is not on record."""
    return (
        f"training goes on from step {step}, and there is no record of its beginning: the weights are read, "
        "nothing is predicted or stopped"
    )


def unknown_length(times: Sequence[float]) -> str:
    """Fractions of the first epoch cannot be read at these times; empty where there are none."""
    listed = ", ".join(f"{time:g}" for time in times)
    return listed and (
        "the training data loader has no length, so the weights cannot be read after fractions of the first "
        f"epoch ({listed}), only at its end: snapshot_every_n_steps=N reads them by optimizer steps, and "
        "Trainer(limit_train_batches=...) gives epochs a length"
    )
