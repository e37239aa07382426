"""Decoders in two fashions: as GPT-2, and as Llama."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Sizes:
    width: int
    heads: int
    depth: int
    vocabulary: int
    hidden: int
    # SwiGLU and a head of its own, as Llama's; otherwise GELU and a tied head, as GPT-2's.
    gated: bool = False


class DecoderLayer(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width, self.heads, self.gated = sizes.width, sizes.heads, sizes.gated
        linear = partial(nn.Linear, bias=not sizes.gated)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.query, self.key, self.value, self.out = (linear(width, width) for _ in range(4))
        self.up, self.down = linear(width, sizes.hidden), linear(sizes.hidden, width)
        self.gate = linear(width, sizes.hidden) if sizes.gated else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[0](x)
        parts = [
            f(y).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value)
        ]
        x = x + self.out(F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).flatten(2))
        y = self.norms[1](x)
        hidden = F.silu(self.gate(y)) * self.up(y) if self.gated else F.gelu(self.up(y))
        return x + self.down(hidden)


class Decoder(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.width)
        self.head = nn.Linear(sizes.width, sizes.vocabulary, bias=False)
        if not sizes.gated:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


DECODERS = {
    "decoder 124 M": Sizes(768, 12, 12, 50257, 3072),
    "decoder 350 M": Sizes(1024, 16, 24, 50257, 4096),
    "decoder 1.3 B": Sizes(2048, 16, 24, 50257, 8192),
    "decoder 7 B": Sizes(4096, 32, 32, 32000, 11008, gated=True),
}
