"""Gradients by a matrix product are those of the convolution."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_nndyn.corpus import get_preset, load_digits_data
from lightning_nndyn.corpus.convolutions import replace_convolutions
from lightning_nndyn.corpus.small_maps import SmallMapConv2d
from lightning_nndyn.corpus.training.train import train_run


def gradients(layer: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    layer.zero_grad()
    images = images.clone().requires_grad_()
    maps = layer(images)
    (maps * torch.arange(maps.numel(), dtype=maps.dtype).reshape(maps.shape).cos()).sum().backward()
    assert images.grad is not None
    return {"maps": maps, "images": images.grad} | {
        name: parameter.grad for name, parameter in layer.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("kernel", "options", "size"),
    [
        (3, {"padding": 1}, (1, 1)),
        (3, {"padding": 1, "bias": False}, (3, 3)),
        (3, {"padding": 1}, (2, 5)),
        ((5, 3), {"padding": (2, 1), "stride": (2, 1)}, (5, 3)),
        (2, {}, (2, 2)),
        (1, {"stride": 3}, (7, 7)),
        (3, {"padding": 1}, (4, 4)),
    ],
)
def test_gradients_are_those_of_the_convolution(
    kernel: int | tuple[int, int],
    options: dict[str, int],
    size: tuple[int, int],
    layout: torch.memory_format,
) -> None:
    layer = nn.Conv2d(4, 6, kernel, **options).double().to(memory_format=layout)  # type: ignore[arg-type]
    images = torch.randn(3, 4, *size, dtype=torch.float64).contiguous(memory_format=layout)
    expected, found = gradients(layer, images), gradients(SmallMapConv2d(layer), images)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values)


def test_only_plain_convolutions_are_replaced_and_keep_their_parameters() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding_mode="reflect", padding=1),
        nn.Sequential(nn.Conv2d(4, 4, 1)),
    )  # fmt: skip
    before = dict(network.named_parameters())
    replace_convolutions(network, SmallMapConv2d)
    after = dict(network.named_parameters())
    assert before.keys() == after.keys() and all(before[name] is after[name] for name in before)
    replaced = [name for name, module in network.named_modules() if isinstance(module, SmallMapConv2d)]
    assert replaced == ["0", "5.0"]


def test_a_run_is_trained_as_by_torchs_own_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of AlexNet's convolutions all but the first have maps of so few pixels here.
    preset = get_preset("lenet5-digits").scaled(images=256, test_images=100, epochs=2)
    config = replace(preset.config(0), network="alexnet", learning_rate=0.02, init_scale=6**0.5, dropout=0.0)
    digits = load_digits_data()
    enlarged = {
        split: getattr(digits, split).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        for split in ("train_images", "test_images")
    }
    data = replace(digits, **enlarged)
    ran: list[int] = []
    small = SmallMapConv2d.forward
    monkeypatch.setattr(SmallMapConv2d, "forward", lambda self, x: (ran.append(1), small(self, x))[1])
    found = train_run(config, data)
    assert ran and not found.failed, found.reason
    monkeypatch.setattr("lightning_nndyn.corpus.training.train.replace_convolutions", lambda *_: None)
    expected = train_run(config, data)
    assert found.curve["train_loss"] == pytest.approx(expected.curve["train_loss"], rel=1e-4)
    assert found.curve["train_loss"][-1] < found.curve["train_loss"][0]
    for one, other in zip(found.snapshots, expected.snapshots, strict=True):
        assert one.statistics == pytest.approx(other.statistics, rel=1e-3)
