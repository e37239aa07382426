"""Multi-head attention, recurrent layers and cells: what each is in a graph."""

import pytest
import torch
import torch.nn.functional as F
import zoo_custom as custom
from layer_edges import edges, joints, traced
from torch import Tensor, nn


def heads_of(weight: Tensor, heads: int) -> Tensor:
    """What a channel of queries or keys weighs: the norm over the positions of its head."""
    norms = weight.detach().unflatten(1, (heads, -1)).norm(dim=2)
    return norms.repeat_interleave(weight.shape[1] // heads, 1)


def test_attention_joins_values_by_channel_and_queries_by_head() -> None:
    model = custom.SeparateAttention()
    graph = traced(model, torch.randn(2, 3, 4), torch.randn(2, 5, 3), torch.randn(2, 5, 5))
    out = model.attention.out_proj.weight
    for part in ("attention.q", "attention.k"):
        torch.testing.assert_close(edges(graph, part, "attention.out_proj"), heads_of(out, 2))
    torch.testing.assert_close(edges(graph, "attention.v", "attention.out_proj"), out.detach().abs())
    for part, source in (("q", "input"), ("k", "input#2"), ("v", "input#3")):
        weight = getattr(model.attention, f"{part}_proj_weight").detach()
        torch.testing.assert_close(edges(graph, source, f"attention.{part}"), weight.abs())


class FusedAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class WrittenAttention(nn.Module):
    """The same from single layers: four ways to write the product of queries and keys."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(6, 6) for _ in range(4))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, 3)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        if self.how == "sdpa":
            mixed = F.scaled_dot_product_attention(q, k, v)
        elif self.how == "einsum":
            weight = torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1)
            mixed = torch.einsum("bhij,bhjd->bhid", weight, v)
        elif self.how == "bmm":
            flat = [part.flatten(0, 1) for part in (q, k, v)]
            mixed = torch.bmm(torch.bmm(flat[0], flat[1].mT).softmax(-1), flat[2]).unflatten(0, (-1, 2))
        else:
            mixed = (q @ k.mT).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("how", ["sdpa", "einsum", "matmul", "bmm"])
def test_attention_is_the_same_however_it_is_written(how: str) -> None:
    written, fused = WrittenAttention(how), FusedAttention()
    with torch.no_grad():
        weights = [layer.weight for layer in (written.q, written.k, written.v)]
        fused.inner.in_proj_weight.copy_(torch.cat(weights))
        fused.inner.out_proj.weight.copy_(written.out.weight)
    x = torch.randn(2, 4, 6)
    one, other = traced(written, x), traced(fused, x)
    for part in "qkv":
        torch.testing.assert_close(edges(one, part, "out"), edges(other, f"inner.{part}", "inner.out_proj"))
        torch.testing.assert_close(edges(one, "input", part), edges(other, "input", f"inner.{part}"))


def test_a_hidden_unit_is_a_node_and_its_gates_make_one_slice() -> None:
    model = custom.LstmHead()
    graph = traced(model, torch.randn(2, 7, 5))
    assert graph.layer_names == ("input", "lstm.l0", "lstm.l0_reverse", "lstm.l1", "lstm.l1_reverse", "fc")
    gates = model.lstm.weight_ih_l0.detach().view(4, 6, 5).norm(dim=0)
    torch.testing.assert_close(edges(graph, "input", "lstm.l0"), gates)
    gates = model.lstm.weight_ih_l1_reverse.detach().view(4, 6, 12).norm(dim=0)
    torch.testing.assert_close(edges(graph, "lstm.l0", "lstm.l1_reverse"), gates[:, :6])
    torch.testing.assert_close(edges(graph, "lstm.l0_reverse", "lstm.l1_reverse"), gates[:, 6:])
    assert all("recurrent" in reason for reason in graph.left_out.values())
    assert set(graph.left_out) == {
        f"lstm.weight_hh_l{layer}{direction}" for layer in (0, 1) for direction in ("", "_reverse")
    }


def test_a_cell_unrolled_by_hand_is_joined_through_its_state() -> None:
    model = custom.Cells()
    graph = traced(model, torch.randn(2, 3, 3))
    assert graph.layer_names == ("input", "cell", "cell#2", "cell#3", "fc")
    state = model.cell.weight_hh.detach().view(3, 4, 4).norm(dim=0)
    torch.testing.assert_close(edges(graph, "cell", "cell#2"), state)
    torch.testing.assert_close(edges(graph, "cell#2", "cell#3"), state)
    assert graph.left_out == {}


def test_a_decoder_is_joined_to_the_encoder_whose_state_it_begins_with() -> None:
    model = custom.Translator()
    graph = traced(model, custom.tokens(2, 5), custom.tokens(2, 4))
    gates = model.decoder.weight_hh_l0.detach().view(4, 6, 6).norm(dim=0)
    torch.testing.assert_close(edges(graph, "encoder.l0", "decoder.l0"), gates)
    assert set(graph.left_out) == {"encoder.weight_hh_l0"}


def test_a_projected_lstm_is_left_out_by_name() -> None:
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.lstm, self.out = nn.Linear(3, 4), nn.LSTM(4, 6, proj_size=2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.lstm(self.body(x))[0])

    graph = traced(Projected(), torch.randn(5, 2, 3))
    assert joints(graph) == {("input", "body"), ("body", "out")}
    assert set(graph.left_out) == {f"lstm.weight_{part}_l0" for part in ("ih", "hh", "hr")}
