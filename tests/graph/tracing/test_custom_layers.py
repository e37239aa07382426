"""Layers that `register_layer` has described."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from layer_edges import edges, joints, traced
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.tracing.coverage import NOT_OBSERVED
from lightning_nndyn.graph.tracing.custom_layers import _REGISTERED


class OwnProduct(torch.autograd.Function):
    """A product whose inside is hidden from tracing."""

    @staticmethod
    def forward(context: object, x: Tensor, weight: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() @ weight.detach().numpy().T)


class OwnLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return OwnProduct.apply(x, self.kernel)


class WithOwn(nn.Sequential):
    def __init__(self, own: type[nn.Module] = OwnLinear) -> None:
        super().__init__(nn.Linear(4, 5), own(5, 5), nn.ReLU(), nn.Linear(5, 2))


@pytest.fixture
def registered() -> Iterator[None]:
    nd.register_layer(OwnLinear, "kernel")
    yield
    del _REGISTERED[OwnLinear]


def test_a_hidden_layer_of_the_users_own_is_named_until_it_is_registered() -> None:
    model = WithOwn()
    graph = traced(model, torch.randn(2, 4))
    assert graph.left_out == {"1": NOT_OBSERVED} and ("0", "3") in joints(graph)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_a_registered_layer_is_a_layer(topology: str) -> None:
    class Heir(OwnLinear):
        pass

    model = WithOwn(Heir)
    graph = nd.rolled_graph(model, torch.randn(2, 4), topology=topology)
    assert graph.layer_names == ("input", "0", "1", "3") and graph.left_out == {}
    torch.testing.assert_close(edges(graph, "0", "1"), model[1].kernel.detach().abs())


@pytest.mark.usefixtures("registered")
def test_an_unrolled_graph_refuses_a_registered_layer_by_name() -> None:
    with pytest.raises(TracingError, match=r"1, a layer of your own \(OwnLinear\)"):
        nd.unrolled_graph(WithOwn(), torch.randn(1, 4))


def test_a_registered_layer_may_read_its_weight_by_a_function_in_groups() -> None:
    class Scaled(nn.Module):
        """A grouped convolution in whole numbers."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("whole", torch.randint(-9, 9, (6, 2, 3, 3), dtype=torch.int8))
            self.parts = 2

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.whole.float() / 9, groups=self.parts)

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Scaled(), nn.Conv2d(6, 2, 1))
    assert traced(model, torch.randn(2, 3, 5, 5)).layer_names == ("input", "0", "2")
    nd.register_layer(Scaled, lambda module: module.whole.float() / 9, groups="parts", axis=1)
    graph = traced(model, torch.randn(2, 3, 5, 5))
    norms = (model[1].whole.float() / 9).norm(dim=(2, 3))
    assert graph.blocks[1].values.shape == (2, 3, 2)
    torch.testing.assert_close(edges(graph, "0", "1")[:3, :2], norms[:3])
    assert edges(graph, "0", "1")[:3, 2:].abs().sum() == 0


def test_a_wrong_registration_is_told_of_and_disturbs_no_training_step() -> None:
    class Ungrouped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    model = nn.Sequential(nn.Linear(3, 4), Ungrouped())
    nd.register_layer(Ungrouped, groups="parts")
    tracer = nd.LayerTracer(model, topology="dataflow")
    with tracer:
        assert model(torch.randn(2, 3)).shape == (2, 4)
    with pytest.raises(TracingError, match="parts"):
        tracer.graph()


def test_register_layer_takes_classes_of_modules_alone() -> None:
    with pytest.raises(TypeError, match="Tensor"):
        nd.register_layer(Tensor)  # type: ignore[type-var]
