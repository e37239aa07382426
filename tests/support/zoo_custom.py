"""Networks of the zoo that are written here: every kind of layer, and forwards that try to get lost."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = block(3, 4), block(4, 6), block(6, 8)
        self.rise2, self.up2 = nn.ConvTranspose2d(8, 6, 2, 2), block(12, 6)
        self.rise1, self.up1 = nn.ConvTranspose2d(6, 4, 2, 2), block(8, 4)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        x = self.rise2(self.bottom(F.max_pool2d(second, 2)))
        x = self.rise1(self.up2(torch.cat([second, x], 1)))
        return self.head(self.up1(torch.cat([first, x], 1)))


class AutoEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU())
        self.code, self.back = nn.Linear(8 * 16, 5), nn.Linear(5, 8 * 16)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(8, 4, 4, 2, 1, groups=2),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 1, 4, 2, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        code = self.code(self.encoder(x).flatten(1))
        return self.decoder(self.back(code).view(-1, 8, 4, 4))


class Variational(nn.Module):
    """Two heads and noise that nobody made."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mean, self.spread, self.out = (
            nn.Linear(a, b) for a, b in ((9, 7), (7, 3), (7, 3), (3, 9))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x).relu()
        mean, spread = self.mean(hidden), self.spread(hidden)
        return self.out(mean + torch.randn_like(mean) * spread.exp()), mean


class Conv1dNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(2, 6, 5, dilation=2), nn.Conv1d(6, 8, 3, groups=2)
        self.fc = nn.Linear(8 * 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool1d(self.b(self.a(x).relu()).relu(), 5).flatten(1))


class Conv3dNet(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv3d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Conv3d(4, 4, 3, padding=1, groups=4),
            nn.ConvTranspose3d(4, 3, 2, 2),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(3, 2),
        )


class LstmHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0].mean(1))


class GruOfPacked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.fc = nn.GRU(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([4, 2]))
        return self.fc(nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0])[0][-1])


class Translator(nn.Module):
    """An encoder whose last state starts a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(9, 4), nn.Embedding(8, 3)
        self.encoder, self.decoder = nn.LSTM(4, 6, batch_first=True), nn.LSTM(3, 6, batch_first=True)
        self.out = nn.Linear(6, 8)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        _, state = self.encoder(self.source(x))
        return self.out(self.decoder(self.target(y), state)[0])


class Cells(nn.Module):
    """A cell unrolled by hand: each call is a node layer."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.fc = nn.GRUCell(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(len(x), 4)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.fc(state)


class Experts(nn.Module):
    """Each row goes to the two experts that a router picks from the data."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.router = nn.Linear(5, 6), nn.Linear(6, 4)
        self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        weight, choice = self.router(x).softmax(-1).topk(2, dim=-1)
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            row, place = (choice == index).nonzero(as_tuple=True)
            if len(row):
                out.index_add_(0, row, expert(x[row]) * weight[row, place, None])
        return self.head(out)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mix, self.head = (
            nn.Embedding(11, 6),
            nn.Linear(6, 6),
            nn.Linear(6, 11, bias=False),
        )
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.embedding(x)).relu())


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.fc(self.fc(x).relu()).relu())


class SeparateAttention(nn.Module):
    """Keys and values of other widths than queries."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=5, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.out(self.attention(query, key, value, need_weights=False)[0])


class EinsumAttention(nn.Module):
    """Two heads of three channels, written with einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(5, 18), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 3)).unbind(2)
        weight = torch.einsum("bihd,bjhd->bhij", q, k).softmax(-1)
        return self.out(torch.einsum("bhij,bjhd->bihd", weight, v).flatten(2))


class DictIn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.table, self.join = nn.Conv2d(3, 4, 3), nn.Linear(5, 4), nn.Linear(8, 2)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        seen = self.image(batch["image"]).relu().mean((2, 3))
        return {"logits": self.join(torch.cat([seen, self.table(batch["table"]).relu()], 1))}


class Unused(nn.Module):
    """Layers never called, and one whose result is thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.never, self.wasted = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        self.wasted(x)
        return self.b(x)


class NoGrad(nn.Module):
    """A frozen feature extractor, as it is often written."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.body(x).relu().mean((2, 3))
        return self.head(x.detach())


class InPlace(nn.Module):
    """Writes through views, adds in place, reads a view older than the write."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.late = (nn.Conv2d(2, 3, 1) for _ in range(4))
        self.out, self.tail = nn.Conv2d(6, 4, 1), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        canvas = torch.zeros(len(x), 6, *x.shape[2:])
        canvas[:, :3] = self.a(x)
        early = canvas[:, 3:]
        canvas[:, :3].add_(self.b(x))
        early.copy_(self.c(x)).mul_(2)
        canvas[:, 3:] += self.late(x)
        return self.out(canvas), self.tail(early)


class Views(nn.Module):
    """Channels cut, turned, folded into positions and back."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.narrow, self.rest = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 6, 1), nn.Linear(16, 5)
        self.patches = nn.Linear(6 * 4, 7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.a(x).chunk(2, dim=1)
        folded = F.unfold(self.narrow(first), 2, stride=2).transpose(1, 2)
        shuffled = F.pixel_shuffle(second, 2).squeeze(1).flatten(1)[:, ::4]
        return self.patches(folded), self.rest(F.pad(shuffled, (0, 16 - shuffled.shape[1])))


class DataDependent(nn.Module):
    """How often a layer is called, and which, depends on the numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.loop, self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x.abs().sum()) % 3 + 2):
            x = self.loop(x).tanh()
        return self.left(x) if float(x.detach().sum()) > 100 else self.right(x)


class Groups(nn.Module):
    """Grouped convolutions behind shuffles and uneven concatenations."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.c, self.depthwise = nn.Conv2d(6, 2, 1), nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.halves = nn.Conv2d(16, 4, 1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.channel_shuffle(self.a(x).relu(), 2)
        x = self.b(x)
        return self.halves(self.depthwise(torch.cat([self.c(x), x], 1)))


class Spectrum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(4, 6), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(torch.fft.rfft(self.before(x)).abs())


class Bilinear(nn.Module):
    """A layer without a meaning here between two that have one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.join, self.out = (
            nn.Linear(3, 4),
            nn.Linear(3, 5),
            nn.Bilinear(4, 5, 6),
            nn.Linear(6, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.join(self.a(x), self.b(x)))


class Stacked(nn.Module):
    """Three experts in one parameter: by slices, and all at once."""

    def __init__(self, at_once: bool) -> None:
        super().__init__()
        self.at_once = at_once
        self.stem, self.experts, self.out = (
            nn.Linear(4, 5),
            nn.Parameter(torch.randn(3, 6, 5)),
            nn.Linear(6, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.at_once:
            made = torch.bmm(x.expand(3, *x.shape), self.experts.transpose(1, 2)).sum(0)
        else:
            made = sum(F.linear(x, self.experts[index]) for index in range(3))
        return self.out(made)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 10), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.glu(self.a(x)))


class Residual(nn.Module):
    """A stream that three layers add to."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.head = (
            nn.Linear(3, 4),
            nn.Linear(4, 4),
            nn.Linear(4, 4),
            nn.Linear(4, 2),
        )
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.a(self.norm(x)).relu()
        return self.head(x + self.b(self.norm(x)).relu())


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag, self.fc = nn.EmbeddingBag(9, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bag(x))


class Parametrised(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3)),
            nn.ReLU(),
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 3, 3)),
        )


def tokens(*shape: int, count: int = 8) -> Tensor:
    return torch.randint(0, count, shape)
