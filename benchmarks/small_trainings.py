"""Eight kinds of training that take seconds: images, a table, sequences, masks, a GAN and a regression.

Images and tables come with scikit-learn, sequences and masks are made on the spot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import lightning as L
import torch
import torchvision
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

_WORDS, _LENGTH, _CLASSES = 40, 16, 4

# -- data: examples and targets


@cache
def _digits(channels: int = 1, size: int = 8) -> tuple[Tensor, Tensor]:
    found = load_digits()
    images = torch.tensor(found.images).float()[:640, None] / 8 - 1
    shown = F.interpolate(images, (size, size)).expand(-1, channels, -1, -1)
    return shown.contiguous(), torch.tensor(found.target)[:640]


@cache
def _table(regression: bool) -> tuple[Tensor, Tensor]:
    found = load_diabetes() if regression else load_breast_cancer()
    rows, targets = torch.tensor(found.data).float(), torch.tensor(found.target)
    rows = (rows - rows.mean(0)) / rows.std(0)
    return rows, (targets.float()[:, None] - 152) / 77 if regression else targets


@cache
def _blobs() -> tuple[Tensor, Tensor]:
    """Images of two discs in noise, and where these are."""
    made = torch.Generator().manual_seed(0)
    across = torch.arange(32.0)
    centres = torch.rand(2, 320, 2, 1, 1, generator=made) * 24 + 4
    radii = torch.rand(2, 320, 1, 1, generator=made) * 4 + 3
    squares = (across[:, None] - centres[:, :, 0]) ** 2 + (across - centres[:, :, 1]) ** 2
    discs = (squares < radii**2).any(0).float()[:, None]
    return discs + 0.7 * torch.randn(discs.shape, generator=made), discs


@cache
def _sequences() -> tuple[Tensor, Tensor]:
    """Sequences of words, each class with frequencies of its own."""
    made = torch.Generator().manual_seed(0)
    frequencies = torch.rand(_CLASSES, _WORDS, generator=made) ** 2
    targets = torch.randint(_CLASSES, (640,), generator=made)
    return torch.multinomial(frequencies[targets], _LENGTH, True, generator=made), targets


# -- networks


class _UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up, self.join = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = F.relu(self.down(x))
        coarse = F.relu(self.deep(F.max_pool2d(fine, 2)))
        return self.out(F.relu(self.join(torch.cat([fine, self.up(coarse)], 1))))


class _TextByLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(_WORDS, 16), nn.LSTM(16, 32, batch_first=True)
        self.head = nn.Linear(32, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.words(x))[0].mean(1))


class _TextByTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.place = nn.Embedding(_WORDS, 32), nn.Parameter(torch.zeros(_LENGTH, 32))
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
        self.blocks, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(32, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.words(x) + self.place).mean(1))


def _vit() -> nn.Module:
    return torchvision.models.VisionTransformer(8, 2, 2, 2, 32, 64, num_classes=10)


def _mlp(inputs: int, outputs: int, width: int = 32) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )


# -- tasks: what is trained, and what is logged


class _Task(L.LightningModule):
    def __init__(self, kind: Kind, rate: float) -> None:
        super().__init__()
        self.kind, self.rate, self.net = kind, rate, kind.network()

    def configure_optimizers(self) -> Any:
        return self.kind.optimizer(self.net.parameters(), lr=self.rate)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log(self.kind.monitor, self.score(self.net(batch[0]), batch[1]))

    def loss(self, found: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(found, wanted)

    def score(self, found: Tensor, wanted: Tensor) -> Tensor:
        return (found.argmax(1) == wanted).float().mean()


class _Segmentation(_Task):
    def loss(self, found: Tensor, wanted: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(found, wanted)

    def score(self, found: Tensor, wanted: Tensor) -> Tensor:
        said, true = found > 0, wanted > 0.5
        return (said & true).sum() / (said | true).sum()


class _Regression(_Task):
    def loss(self, found: Tensor, wanted: Tensor) -> Tensor:
        return F.mse_loss(found, wanted)

    score = loss


class _GAN(_Task):
    """Logs the Frechet distance between pixels of digits and of what the generator makes."""

    def __init__(self, kind: Kind, rate: float) -> None:
        super().__init__(kind, rate)
        self.automatic_optimization = False
        self.critic = _mlp(64, 1, 64)

    def configure_optimizers(self) -> Any:
        betas = (0.5, 0.99)
        return [torch.optim.Adam(part.parameters(), self.rate, betas) for part in (self.net, self.critic)]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        generator, critic = self.optimizers()
        real = batch[0].flatten(1)
        made = self.net(torch.randn(len(real), 16))
        loss = self.says(made.detach(), 0) + self.says(real, 1)
        self.descend(critic, loss)
        self.descend(generator, self.says(made, 1))
        return loss.detach()

    def descend(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def says(self, images: Tensor, real: int) -> Tensor:
        says = self.critic(images)
        return F.binary_cross_entropy_with_logits(says, torch.full_like(says, real))

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log(self.kind.monitor, _frechet(batch[0].flatten(1), self.net(torch.randn(640, 16))))


def _frechet(these: Tensor, those: Tensor) -> Tensor:
    one, other = torch.cov(these.T), torch.cov(those.T)
    # The trace of the product's root is the sum of the roots of its eigenvalues.
    roots = torch.linalg.eigvals(one @ other).real.clamp(min=0).sqrt().sum()
    means = (these.mean(0) - those.mean(0)).square().sum()
    return means + one.trace() + other.trace() - 2 * roots


# -- the eight kinds


@dataclass(frozen=True)
class Kind:
    """A kind of training.

    Attributes:
        network: makes the module that is trained.
        data: gives examples and targets.
        monitor: the metric.
        rates: the good learning rate, and one that is far too large.
        task: the LightningModule's class.
        optimizer: its class.
        batch: its size.
        epochs: of a run.
    """

    network: Callable[[], nn.Module]
    data: Callable[[], tuple[Tensor, Tensor]]
    monitor: str
    rates: tuple[float, float]
    task: type[_Task] = _Task
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam
    batch: int = 16
    epochs: int = 12


KINDS = {
    "ResNet-18": Kind(
        lambda: torchvision.models.resnet18(num_classes=10),
        lambda: _digits(3, 16),
        "val_acc",
        (1e-3, 3.0),
        batch=32,
        epochs=8,
    ),
    "ViT": Kind(_vit, lambda: _digits(3), "val_acc", (3e-3, 1.0)),
    "MLP on a table": Kind(lambda: _mlp(30, 2), lambda: _table(False), "val_acc", (0.1, 1e3), optimizer=SGD),
    "U-Net": Kind(_UNet, _blobs, "val_iou", (3e-3, 10.0), _Segmentation),
    "text, LSTM": Kind(_TextByLSTM, _sequences, "val_acc", (1.0, 1e3), optimizer=SGD),
    "text, transformer": Kind(_TextByTransformer, _sequences, "val_acc", (2e-3, 1.0)),
    "GAN": Kind(lambda: _mlp(16, 64, 64), _digits, "fid", (1e-3, 1.0), _GAN),
    "regression": Kind(lambda: _mlp(10, 1), lambda: _table(True), "val_loss", (0.03, 10.0), _Regression, SGD),
}
