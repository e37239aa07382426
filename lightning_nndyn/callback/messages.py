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
        self._said: list[str] = []

    def info(self, topic: str, message: str) -> None:
        """Prints a message; nothing where it is empty."""
        if self._verbose and message and self._is_new(topic):
            self._said.append(message)
            rank_zero_info(f"GraphDynamicsCallback: {message}")

    def have_said(self, text: str) -> bool:
        """Whether a message that was printed has this text in it."""
        return any(text in message for message in self._said)

    def warn(self, topic: str, message: str) -> None:
        """Warns; of nothing where the message is empty."""
        if message and self._is_new(topic):
            rank_zero_warn(f"GraphDynamicsCallback: {message}", category=NNDynWarning)

    def _is_new(self, topic: str) -> bool:
        new = topic not in self._topics
        self._topics.add(topic)
        return new


OWN_RUNS = (
    "finished runs of your own, 19 good ones among them, make a predictor that knows them: nndyn fit --runs"
)
"""What helps where no predictor knows such runs."""


def unknown_beginning(step: int) -> str:
    """A run is resumed whose beginning is not on record."""
    return (
        f"training goes on from step {step}, and there is no record of its beginning: the weights are read, "
        "nothing is predicted or stopped"
    )


def late_beginning(epochs: int) -> str:
    """So many epochs have passed before the first loss; empty where none have."""
    if not epochs:
        return ""
    return (
        f"{epochs} epochs have passed before the first loss, which no predictor knows: the "
        "weights are read, nothing is predicted or stopped"
    )


def frozen_layers(names: Sequence[str]) -> str:
    """Layers of the graph that no optimizer holds; empty where there are none."""
    return f"frozen, and read with the layers that train: {_listed(names)}" if names else ""


def layers_changed(how: str) -> str:
    """Layers were replaced by others in training, or others are trained; empty where neither is so."""
    return how and (
        f"layers were changed while training ({how}): they make another graph than the run began with, so "
        "the weights are no longer read, and nothing is predicted or stopped. If the first batches "
        "only train another part of the model, name the layers to read with layers=[...]"
    )


def weights_exchanged(names: Sequence[str]) -> str:
    """The layers run with weights that the model does not have."""
    return (
        f"layers run with weights that are not parameters of the model ({_listed(names)}), as with "
        "functional_call and hypernetworks: no weights are read, and nothing is predicted or stopped"
    )


def weights_stand_still(names: Sequence[str]) -> str:
    """The loss changes, and the weights that are read do not."""
    return (
        f"the weights that are read ({_listed(names)}) have not moved, and the loss has: others are trained, "
        "so nothing is predicted or stopped; layers=['first', ..., 'last'] names the layers to read"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], f"and {len(names) - 3} more"] if len(names) > 4 else names)


def unknown_length(times: Sequence[float]) -> str:
    """Fractions of the first epoch cannot be read at these times; empty where there are none."""
    listed = ", ".join(f"{time:g}" for time in times)
    return listed and (
        "the training data loader has no length, so the weights cannot be read after fractions of the first "
        f"epoch ({listed}), only at its end: snapshot_every_n_steps=N reads them by optimizer steps, and "
        "Trainer(limit_train_batches=...) gives epochs a length"
    )
