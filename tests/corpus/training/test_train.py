"""One training run: its protocol, its snapshots, its labels, divergence, determinism."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from lightning_nndyn import models
from lightning_nndyn.corpus import ImageData, RunRecord, get_preset, load_digits_data, train_run
from lightning_nndyn.corpus.storage.record import CURVES, WEIGHT_STATISTICS
from lightning_nndyn.corpus.training.batches import BatchLoader
from lightning_nndyn.corpus.training.network import network_options
from lightning_nndyn.signature.snapshot import SIGNATURE_VERSION

PRESET = get_preset("lenet5-digits").scaled(epochs=8)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_digits_data()


@pytest.fixture(scope="module")
def record(data: ImageData) -> RunRecord:
    return train_run(PRESET.config(402), data, PRESET.departures())


def timeless(record: RunRecord) -> str:
    """The record as text without the wall times, which alone may differ."""
    plain: dict[str, Any] = record.to_dict()
    plain["seconds"] = plain["curve"]["seconds"] = None
    return json.dumps(plain)


def test_a_run_learns_and_is_recorded_whole(record: RunRecord) -> None:
    assert record.config["learning_rate"] == 0.1 and record.config["dropout"] == 0.2
    assert record.best_accuracy > 0.6 and record.curve["train_loss"][-1] < record.curve["train_loss"][0]
    assert set(record.curve) == set(CURVES) and all(len(values) == 8 for values in record.curve.values())
    assert record.curve["learning_rate"] == [0.1] * 8
    assert record.reason == "all epochs trained" and record.diverged_epoch is None
    assert record.departures == PRESET.departures()
    assert record.versions["signature"] == str(SIGNATURE_VERSION)
    assert 0 < sum(record.curve["seconds"]) <= record.seconds


def test_snapshots_come_at_the_agreed_times_with_raw_material(record: RunRecord) -> None:
    assert [snapshot.epoch for snapshot in record.snapshots] == [0, 0.0625, 0.125, 0.25, 0.5, *range(1, 9)]
    assert all(snapshot.num_nodes == 1 + 6 + 16 + 120 + 84 + 10 for snapshot in record.snapshots)
    assert all(snapshot.residual <= 1e-6 for snapshot in record.snapshots)
    assert all(len(snapshot.layers) == 6 for snapshot in record.snapshots)
    for layers in record.weights:
        assert [len(values) for values in layers.values()] == [len(WEIGHT_STATISTICS)] * 5
    moved = [layers[next(iter(layers))][-1] for layers in record.weights]
    assert moved[0] == 0 and 0 < moved[1] < moved[5] < moved[12]


def test_losses_are_means_over_the_epoch_so_far_and_its_last_sixteenth(record: RunRecord) -> None:
    assert all(math.isnan(loss) for loss in record.losses[0])
    assert record.losses[1][0] == record.losses[1][1]  # one batch of twelve
    two_batches = (record.losses[1][0] + record.losses[2][1]) / 2
    assert record.losses[2][0] == pytest.approx(two_batches)
    assert [so_far for so_far, _ in record.losses[5:]] == record.curve["train_loss"]


def test_a_run_is_deterministic_and_leaves_the_callers_state(data: ImageData, record: RunRecord) -> None:
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    again = train_run(PRESET.config(402), data, PRESET.departures())
    assert timeless(again) == timeless(record)
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads


def test_another_seed_gives_another_run(data: ImageData, record: RunRecord) -> None:
    other = train_run(replace(PRESET.config(402), seed=1), data)
    assert other.curve["train_loss"] != record.curve["train_loss"]
    assert other.snapshots[0].statistics != record.snapshots[0].statistics


def test_reading_does_not_change_the_training(data: ImageData, record: RunRecord) -> None:
    """A run written out by hand, without snapshots, ends with the same test accuracy and loss."""
    config = PRESET.config(402)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = models.lenet5(10, config.dropout, in_channels=1, image_size=8)
        optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=0.9)
        loader = BatchLoader(config, data)
        for _ in range(config.epochs):
            for images, labels in loader:
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(images), labels).backward()
                optimizer.step()
    model.eval()
    logits = model(data.normalise(data.test_images))
    assert (logits.argmax(1) == data.test_labels).float().mean().item() == pytest.approx(record.last_accuracy)
    loss = torch.nn.functional.cross_entropy(logits, data.test_labels).item()
    assert loss == pytest.approx(record.curve["test_loss"][-1], rel=1e-4)


def test_a_diverged_run_is_a_record_with_its_reason(data: ImageData) -> None:
    record = train_run(replace(PRESET.config(8), learning_rate=1e4, dropout=0.0), data)
    assert record.diverged_epoch is not None and record.diverged_epoch <= 1
    assert record.reason == f"diverged at epoch {record.diverged_epoch:g}"
    assert not record.snapshots[-1].finite and record.snapshots[-1].epoch == record.diverged_epoch
    assert all(snapshot.finite for snapshot in record.snapshots[:-1])
    assert len(record.curve["test_accuracy"]) == 1 and 0 <= record.last_accuracy <= 0.2
    assert json.dumps(RunRecord.from_dict(record.to_dict()).to_dict()) == json.dumps(record.to_dict())


def test_bf16_trains_too(data: ImageData) -> None:
    record = train_run(replace(PRESET.config(402), precision="bf16"), data)
    assert record.config["precision"] == "bf16" and record.best_accuracy > 0.5


def test_colour_images_train(data: ImageData) -> None:
    colour = replace(
        data,
        train_images=data.train_images.repeat(1, 3, 2, 2),
        test_images=data.test_images.repeat(1, 3, 2, 2),
    )
    config = replace(PRESET.config(402), flip=True, crop_padding=2, epochs=1, images=600, test_images=100)
    record = train_run(config, colour)
    assert record.snapshots[-1].num_nodes == 3 + 6 + 16 + 120 + 84 + 10
    assert record.config["network_options"] == {
        "num_classes": 10, "dropout": 0.2, "in_channels": 3, "image_size": 16,
    }  # fmt: skip


def test_networks_get_only_the_options_they_take(data: ImageData) -> None:
    config = get_preset("resnet32-cifar10").config(3)
    assert "image_size" not in network_options(config, data)
    assert network_options(config, data)["dropout"] == config.dropout


def test_labels_up_to_patience(record: RunRecord) -> None:
    curve = record.curve | {"test_accuracy": [0.5, 0.4, 0.3, 0.9]}
    stopped = replace(record, curve=curve, patience_epoch=3)
    assert (stopped.best_accuracy, stopped.last_accuracy) == (0.9, 0.9)
    assert (stopped.patience_best_accuracy, stopped.patience_last_accuracy) == (0.5, 0.3)
    free = replace(record, curve=curve, patience_epoch=None)
    assert (free.patience_best_accuracy, free.patience_last_accuracy) == (0.9, 0.9)
