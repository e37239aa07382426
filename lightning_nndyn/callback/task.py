"""What is known of a run's task: whether it has an accuracy that a predictor may speak of.

The predictors that ship were fitted to classifications. The graph of a GAN, a regression, a self-supervised
or a reinforcement-learning network may look like theirs, and has no accuracy. So a shipped predictor speaks
only where the run shows that it is a classification; what users fit themselves is taken for what they
monitor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from lightning_nndyn.callback.monitored_metric import Mode, MonitoredMetric, is_accuracy
from lightning_nndyn.callback.settings import Settings
from lightning_nndyn.predictor.pretrained import is_shipped

_OF_CLASSES = frozenset(("cross_entropy", "nll_loss"))
_OF_ONE_OUTPUT = frozenset(("binary_cross_entropy", "binary_cross_entropy_with_logits"))
LOSS_FUNCTIONS = _OF_CLASSES | _OF_ONE_OUTPUT | frozenset(
    """mse_loss l1_loss smooth_l1_loss huber_loss gaussian_nll_loss poisson_nll_loss kl_div ctc_loss
    cosine_embedding_loss triplet_margin_loss triplet_margin_with_distance_loss margin_ranking_loss
    hinge_embedding_loss multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss
    soft_margin_loss""".split()
)  # fmt: skip
"""Torch's loss functions; those of a traced batch tell what the task is."""


class RunTask:
    """Whether a run has an accuracy that its predictor may speak of.

    Args:
        settings: the callback's arguments.
        direction: of the run's sweep; None without one.

    Attributes:
        metric: the one that is monitored; None if there is none.
        is_classification: whether the run has shown that it is one.
    """

    def __init__(self, settings: Settings, direction: Literal["maximize", "minimize"] | None = None) -> None:
        mode: Mode | None = settings.mode
        if mode is None and direction is not None:
            mode = "max" if direction == "maximize" else "min"
        self.metric = None if settings.monitor is None else MonitoredMetric.of(settings.monitor, mode)
        self._predictor, self._in_sweep = settings.predictor, direction is not None
        self._is_shipped = self._predictor is not None and is_shipped(self._predictor)
        self._of_own = not (self._predictor is None or self._is_shipped)
        self._loss_functions: list[str] = []
        self.is_classification = False

    @property
    def monitors_accuracy(self) -> bool:
        """Whether the monitored metric is an accuracy, or what an own predictor takes for one."""
        metric = self.metric
        if metric is None or (self._in_sweep and self._predictor is None):  # a sweep ranks any metric
            return False
        return metric.is_accuracy or (self._of_own and metric.mode != "min")

    @property
    def has_accuracy_name(self) -> bool:
        """Whether the monitored metric is an accuracy by its name, whose unit is known: it may be percent."""
        return self.monitors_accuracy and self.metric is not None and self.metric.is_accuracy

    @property
    def has_own_unit(self) -> bool:
        """Whether the monitored metric is known to be no accuracy."""
        metric = self.metric
        return metric is not None and metric.mode is not None and not (metric.is_accuracy or self._of_own)

    @property
    def reads_metric(self) -> bool:
        """Whether the monitored metric is read: not before it is known which values are better."""
        return self.metric is not None and (self.metric.mode is not None or not self._is_shipped)

    @property
    def question(self) -> str:
        """What the user is asked where a metric's better values are not known; else empty."""
        if self.metric is None or self.reads_metric:
            return ""
        name = self.metric.name
        return (
            f"monitor={name!r}: say whether it is to grow or to fall, mode='max' or mode='min'. Until then "
            "it is not read. (An accuracy is known by its name: val_acc, val/accuracy.)"
        )

    @property
    def has_accuracy(self) -> bool:
        """Whether the predictor may predict how this run ends."""
        if self.metric is not None and self.metric.mode is not None:
            return self.monitors_accuracy
        return self._of_own or self.is_classification

    @property
    def why_silent(self) -> str:
        """Why the predictor does not speak of this run, in words; empty if it does."""
        if self.has_accuracy:
            return ""
        if self.metric is not None and self.metric.mode is not None:
            return f"{self.metric.name} is no accuracy, which is all that predictors know"
        found = f" (its loss: {', '.join(self._loss_functions)})" if self._loss_functions else ""
        return (
            f"nothing shows that the task is a classification{found}, and predictors know accuracies alone; "
            "monitor='val_acc' names one"
        )

    # -- what the run shows ----------------------------------------------------------------------------------

    def see_losses(
        self, called: Sequence[tuple[str, tuple[int, ...]]], outputs: int, num_optimizers: int
    ) -> None:
        """Notes the loss functions of the traced batch.

        Cross-entropy of one row an example, on as many classes as the last layer has outputs, is that of a
        classification. A contrastive loss compares examples with examples: what it is given is square. With
        two optimizers, as of a GAN, such a loss may be a part of something else.

        Args:
            called: functions by name, with the shape of what they were given.
            outputs: of the network's last layer.
            num_optimizers: of the training.
        """
        self._loss_functions = sorted({name for name, _ in called})
        of_classes = [
            (name in _OF_CLASSES and len(shape) == 2 and shape[0] != shape[1] == outputs)
            or (name in _OF_ONE_OUTPUT and outputs == 1)
            for name, shape in called
        ]
        self.is_classification |= num_optimizers <= 1 and any(of_classes)

    def see_names(self, names: Iterable[str]) -> None:
        """Notes the metrics that the model logs: an accuracy among them is that of a classification."""
        self.is_classification = self.is_classification or any(map(is_accuracy, names))


def check_direction(mode: Mode | None, direction: Literal["maximize", "minimize"]) -> None:
    """Raises ValueError if a metric's mode is not the direction of its sweep."""
    if mode is not None and (mode == "max") != (direction == "maximize"):
        raise ValueError(
            f"mode={mode!r}, and the trial's sweep is to {direction}: monitor the metric that it "
            "optimizes, or leave mode= to the sweep"
        )
