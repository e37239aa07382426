"""Batches: shuffled, cropped, mirrored, kept as bytes."""

from collections import Counter
from dataclasses import replace

import torch

from lightning_nndyn.corpus import ImageData, get_preset, load_digits_data
from lightning_nndyn.corpus.training.batches import BatchLoader


def _loader(flip: bool, padding: int) -> tuple[BatchLoader, ImageData]:
    """A loader over images whose every pixel is unlike all others within its image."""
    images = torch.arange(1, 2 * 6 * 5 + 1, dtype=torch.uint8).view(1, 2, 6, 5).repeat(40, 1, 1, 1)
    images[:, 0, 0, 0] = torch.arange(100, 140, dtype=torch.uint8)
    labels = torch.arange(40)
    data = ImageData(images, labels, images, labels, tuple("ab"))
    config = replace(get_preset("lenet5-cifar10").config(0), batch_size=16, crop_padding=padding, flip=flip)
    return BatchLoader(config, data), data


def test_batches_cover_an_epoch_in_another_order_each_time() -> None:
    loader, data = _loader(flip=False, padding=0)
    first, second = ([pair for pair in loader] for _ in range(2))
    assert len(first) == len(loader) == 3
    labels = [torch.cat([label for _, label in epoch]) for epoch in (first, second)]
    assert all(sorted(label.tolist()) == list(range(40)) for label in labels)
    assert not torch.equal(*labels)
    for images, label in first:
        assert torch.equal(images, data.normalise(data.train_images[label]))


def test_every_crop_is_a_shifted_image_and_half_are_mirrored() -> None:
    loader, data = _loader(flip=True, padding=2)
    padded = torch.nn.functional.pad(data.train_images, (2, 2, 2, 2))
    kinds: Counter[tuple[int, int, bool]] = Counter()
    for _ in range(5):
        for images, labels in loader:
            for image, label in zip(images, labels, strict=True):
                found = [
                    (row, column, mirrored)
                    for row in range(5)
                    for column in range(5)
                    for mirrored in (False, True)
                    if torch.equal(image, _crop(data, padded[label], row, column, mirrored))
                ]
                assert len(found) == 1
                kinds.update(found)
    assert {row for row, _, _ in kinds} == {column for _, column, _ in kinds} == set(range(5))
    assert 60 < sum(count for kind, count in kinds.items() if kind[2]) < 140


def _crop(data: ImageData, padded: torch.Tensor, row: int, column: int, mirrored: bool) -> torch.Tensor:
    crop = padded[:, row : row + 6, column : column + 5]
    return data.normalise(crop.flip(2) if mirrored else crop)


def test_images_stay_bytes_on_the_device_and_are_normalised_batch_by_batch() -> None:
    """To the same bits as if all of them were normalised at once."""
    data = load_digits_data()
    config = replace(get_preset("lenet5-digits").config(402), flip=True, crop_padding=2)
    loader = BatchLoader(config, data.to(torch.device("cpu")))
    assert loader.windows.dtype == torch.uint8 and loader.data.test_images.dtype == torch.uint8
    plan = BatchLoader(config, data).planner.draw()
    padded = data.normalise(torch.nn.functional.pad(data.train_images, (2, 2, 2, 2)))
    batches = list(loader)
    expected = torch.stack(
        [
            padded[image, :, row : row + 8, column : column + 8].flip(2 if mirrored else ())
            for image, row, column, mirrored in zip(*(part.tolist() for part in plan), strict=True)
        ]
    )
    assert torch.equal(torch.cat([images for images, _ in batches]), expected)
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.train_labels[plan.order])
