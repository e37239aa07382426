"""Writes in place and views."""

import torch
import zoo_custom as custom
from layer_edges import edges, joints, traced
from torch import Tensor, nn


def test_writes_in_place_through_views_old_and_new() -> None:
    model = custom.InPlace()
    graph = traced(model, torch.randn(2, 2, 4, 4))
    kernel = model.out.weight.detach()[:, :, 0, 0].abs()
    halves = {"a": kernel[:, :3], "b": kernel[:, :3], "c": kernel[:, 3:], "late": kernel[:, 3:]}
    for name, half in halves.items():
        torch.testing.assert_close(edges(graph, name, "out"), half)
    tail = model.tail.weight.detach()[:, :, 0, 0].abs()
    assert {source for source, target in joints(graph) if target == "tail"} == {"c", "late"}
    torch.testing.assert_close(edges(graph, "late", "tail"), tail)


def test_what_was_overwritten_is_forgotten() -> None:
    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            made = self.a(x)
            made[:, 1:3] = self.b(x)[:, 1:3]
            made[:, 3] = 0
            return self.out(made)

    model = Overwriting()
    graph = traced(model, torch.randn(2, 3))
    weight, none = model.out.weight.detach().abs(), torch.zeros(2)
    torch.testing.assert_close(edges(graph, "a", "out"), torch.stack((weight[:, 0], none, none, none), 1))
    torch.testing.assert_close(
        edges(graph, "b", "out"), torch.stack((none, weight[:, 1], weight[:, 2], none), 1)
    )
