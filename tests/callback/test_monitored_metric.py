"""A metric's name tells which of its values are better, where that is safe, and whether it is an accuracy."""

from __future__ import annotations

import pytest

from lightning_nndyn.callback.monitored_metric import MonitoredMetric, guess_mode, is_accuracy


@pytest.mark.parametrize(
    "name",
    """val_acc val/accuracy valAcc val_MulticlassAccuracy acc1 val_acc_epoch val_auc AUROC val_f1 F1Score
    val_iou val_miou val_dice precision val_recall mAP val_mAP50 val_r2 R2Score psnr ssim BLEU4 val_reward
    val_acc/dataloader_idx_1""".split(),
)
def test_names_of_metrics_that_grow(name: str) -> None:
    assert guess_mode(name) == "max"


@pytest.mark.parametrize(
    "name",
    """loss val_loss valLoss val/loss_epoch error_rate test_err val_mae MeanAbsoluteError val_MSE RMSE
    perplexity val_ppl wer CER fid dice_loss accuracy_error loss/dataloader_idx_0""".split(),
)
def test_names_of_metrics_that_fall(name: str) -> None:
    assert guess_mode(name) == "min"


@pytest.mark.parametrize(
    "name", ["score", "val", "lr", "neg_loss", "negative_mse", "mse_vs_auc", "vacancy", "lossless"]
)
def test_other_names_tell_nothing(name: str) -> None:
    assert guess_mode(name) is None


def test_accuracies_are_known_by_name() -> None:
    assert all(map(is_accuracy, ("val_acc", "top1_acc", "acc@1", "valAccuracy", "train/accuracy_epoch")))
    assert not any(map(is_accuracy, ("val_iou", "top5_acc", "acc@5", "accuracy_error", "f1", "vacc", "loss")))
    assert not MonitoredMetric.of("val_acc", "min").is_accuracy


def test_a_mode_that_is_given_is_not_guessed() -> None:
    assert str(MonitoredMetric.of("val_loss")) == "val_loss (lower is better, guessed from its name)"
    assert str(MonitoredMetric.of("score", "max")) == "score (higher is better)"
    assert str(MonitoredMetric.of("score")) == "score"
    assert MonitoredMetric.of("score", "min").better(1.0, than=2.0)
    assert MonitoredMetric.of("val_acc").better(2.0, than=1.0)
