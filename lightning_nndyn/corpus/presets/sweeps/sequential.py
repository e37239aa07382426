"""The families of the sweeps that read rows, patches or tokens: MLPs, mixers, transformers, LSTM and GRU."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nndyn.corpus.presets.sweeps.layers import Residual, Shape
from lightning_nndyn.corpus.presets.zoo_networks import normalisation

_HEADS = 4
_MLP_RATIO = 2


def mlp(inputs: int, classes: int, shape: Shape, residual: bool) -> nn.Module:
    """`depth` hidden layers; `residual` adds shortcuts around all but the first."""
    layers: list[nn.Module] = [nn.Flatten()]
    for index in range(shape.depth):
        before = shape.width if index else inputs
        layer = nn.Sequential(
            nn.Linear(before, shape.width),
            normalisation(shape.normalisation, shape.width, maps=False),
            shape.activate(),
            nn.Dropout(shape.dropout),
        )
        layers.append(Residual(layer) if residual and index else layer)
    return nn.Sequential(*layers, nn.Linear(shape.width, classes))


class _Patches(nn.Module):
    """Images to sequences of patches [N, patches, width], plus learned position embeddings."""

    def __init__(self, channels: int, size: int, width: int) -> None:
        super().__init__()
        self.patch = max(size // 4, 2) if size < 16 else 4
        self.project = nn.Conv2d(channels, width, self.patch, self.patch)
        self.count = (size // self.patch) ** 2
        self.places = nn.Parameter(0.02 * torch.randn(1, self.count, width))

    def forward(self, x: Tensor) -> Tensor:
        patches: Tensor = self.project(x).flatten(2).transpose(1, 2)
        return patches + self.places


class _Mean(nn.Module):
    """The mean over a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class _Transposed(nn.Module):
    """Applies a module along the sequence instead of the channels."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.transpose(1, 2)).transpose(1, 2)
        return out


def mixer(channels: int, size: int, classes: int, shape: Shape) -> nn.Module:
    """MLPs along patches and along channels in turn (Tolstikhin et al., 2021)."""
    patches = _Patches(channels, size, shape.width)
    blocks: list[nn.Module] = []
    for _ in range(shape.depth):
        along = _Transposed(_feed_forward(patches.count, 2 * patches.count, shape))
        across = _feed_forward(shape.width, _MLP_RATIO * shape.width, shape)
        blocks += [
            Residual(nn.Sequential(nn.LayerNorm(shape.width), along)),
            Residual(nn.Sequential(nn.LayerNorm(shape.width), across)),
        ]
    return nn.Sequential(
        patches, *blocks, nn.LayerNorm(shape.width), _Mean(), nn.Linear(shape.width, classes)
    )


class _Attention(nn.Module):
    """Self-attention by one joint projection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.joint, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        count, length, width = x.shape
        joint = self.joint(x).view(count, length, 3, _HEADS, width // _HEADS)
        query, key, value = joint.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(count, length, width))
        return out


def vit(channels: int, size: int, classes: int, shape: Shape) -> nn.Module:
    """A vision transformer: normalisation before attention and MLP, then the mean over the patches."""
    blocks: list[nn.Module] = []
    for _ in range(shape.depth):
        inner = _feed_forward(shape.width, _MLP_RATIO * shape.width, shape)
        blocks += [
            Residual(nn.Sequential(nn.LayerNorm(shape.width), _Attention(shape.width))),
            Residual(nn.Sequential(nn.LayerNorm(shape.width), inner)),
        ]
    return nn.Sequential(
        _Patches(channels, size, shape.width),
        *blocks,
        nn.LayerNorm(shape.width),
        _Mean(),
        nn.Linear(shape.width, classes),
    )


def _feed_forward(width: int, hidden: int, shape: Shape) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), shape.activate(), nn.Dropout(shape.dropout), nn.Linear(hidden, width)
    )


class Tokens(nn.Module):
    """Tokens to vectors [N, length, width], plus learned position embeddings if wanted."""

    def __init__(self, vocabulary: int, length: int, width: int, places: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.02 * torch.randn(1, length, width)) if places else None

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [N, length] to vectors."""
        vectors: Tensor = self.embed(x)
        return vectors if self.places is None else vectors + self.places


class Rows(nn.Module):
    """Images to sequences of their rows [N, height, channels * width]."""

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, channels, height, width] to rows."""
        return x.transpose(1, 2).flatten(2)


class _Recurrent(nn.Module):
    """An LSTM or a GRU; the output is that of the last step."""

    def __init__(self, cell: str, inputs: int, shape: Shape) -> None:
        super().__init__()
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        between = shape.dropout if shape.depth > 1 else 0.0
        self.cells = kind(inputs, shape.width, shape.depth, batch_first=True, dropout=between)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cells(x)[0][:, -1]
        return out


def recurrent(cell: str, front: nn.Module, inputs: int, classes: int, shape: Shape) -> nn.Module:
    """`depth` layers of LSTM ("lstm") or GRU ("gru") on the output of `front`."""
    return nn.Sequential(
        front, _Recurrent(cell, inputs, shape), nn.Dropout(shape.dropout), nn.Linear(shape.width, classes)
    )


def transformer(vocabulary: int, length: int, classes: int, shape: Shape) -> nn.Module:
    """Torch's encoder layers on tokens; "layer" normalises before attention and MLP, otherwise after."""
    activation = "gelu" if shape.activation == "gelu" else "relu"
    layers = [
        nn.TransformerEncoderLayer(
            shape.width,
            _HEADS,
            _MLP_RATIO * shape.width,
            shape.dropout,
            activation,
            batch_first=True,
            norm_first=shape.normalisation == "layer",
        )
        for _ in range(shape.depth)
    ]
    front = Tokens(vocabulary, length, shape.width, places=True)
    return nn.Sequential(front, *layers, _Mean(), nn.Linear(shape.width, classes))
