"""The metric that is monitored: whether it is to grow or to fall, and whether it is an accuracy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Mode = Literal["max", "min"]

_GROWS = frozenset(
    """acc accuracy top1 auc auroc auprc roc f1 iou miou jaccard dice precision recall sensitivity specificity
    map ap r2 psnr ssim bleu rouge meteor kappa mcc reward return ndcg mrr""".split()
)
_FALLS = frozenset(
    "loss error err mae mse rmse mape smape nll bce perplexity ppl wer cer fid lpips brier ece".split()
)
_DEFECTS = frozenset(("loss", "error", "err"))  # "dice_loss" and "accuracy_error" fall whatever is lost
_TURNED = frozenset(("neg", "negative", "negated", "minus", "inv", "inverse"))
_ACCURACIES = frozenset(("acc", "accuracy", "top1"))
_OF_SEVERAL = re.compile(r"top[^a-z0-9]?([2-9]|\d\d)|acc(uracy)?@?([2-9]|\d\d)")


@dataclass(frozen=True)
class MonitoredMetric:
    """A metric that a run logs, and which of its values are better.

    Attributes:
        name: as it is logged.
        mode: whether large ("max") or small ("min") values are better; None where nobody has said so, and
            the name does not tell.
        guessed: whether the mode was guessed from the name.
    """

    name: str
    mode: Mode | None = None
    guessed: bool = False

    @classmethod
    def of(cls, name: str, mode: Mode | None = None) -> MonitoredMetric:
        """The metric of a name, whose mode is guessed from it where none is given."""
        return cls(name, mode) if mode is not None else cls(name, guess_mode(name), guessed=True)

    @property
    def is_accuracy(self) -> bool:
        """Whether the name says that it is the accuracy of a classification, a share of right answers."""
        return self.mode != "min" and is_accuracy(self.name)

    @property
    def sign(self) -> float:
        """What makes its large values the good ones: -1 where it falls, else 1."""
        return -1.0 if self.mode == "min" else 1.0

    def better(self, value: float, than: float) -> bool:
        """Whether a value is better than another one."""
        return value < than if self.mode == "min" else value > than

    def __str__(self) -> str:
        """As in "val_iou (higher is better, guessed from its name)"."""
        if self.mode is None:
            return self.name
        how = "higher is better" if self.mode == "max" else "lower is better"
        return f"{self.name} ({how}{', guessed from its name' if self.guessed else ''})"


def guess_mode(name: str) -> Mode | None:
    """Whether a metric of this name is to grow or to fall; None where the name does not tell safely."""
    words = _words(name)
    grows, falls = bool(words & _GROWS), bool(words & _FALLS)
    if words & _TURNED or not (grows or falls):
        return None
    if grows and falls:
        return "min" if words & _DEFECTS else None
    return "max" if grows else "min"


def is_accuracy(name: str) -> bool:
    """Whether a name is that of a classification's accuracy; not of one with several answers (top 5)."""
    several = _OF_SEVERAL.search(name.lower())
    return guess_mode(name) == "max" and bool(_words(name) & _ACCURACIES) and not several


def _words(name: str) -> set[str]:
    """The words of a name, in lower case: "val/MulticlassAccuracy_1" has val, multiclass and accuracy."""
    parts = re.split(r"[^A-Za-z0-9]+", name)
    camels = re.findall(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+", " ".join(parts))
    words = {word.lower() for word in (*parts, *camels)}
    return words | {word.rstrip("0123456789") for word in words}
