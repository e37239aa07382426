"""Records the layer calls of a forward pass, operation by operation.

Products with a weight become layer calls; all other operations pass the origins of their inputs on to their
outputs. A product that has no meaning in a rolled graph is left out by name, and passes on what flows in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from lightning_nndyn.graph.sharding import refuse_tensor_parallel
from lightning_nndyn.graph.tracing.composite_layers import COMPOSITES
from lightning_nndyn.graph.tracing.custom_layers import CustomLayer
from lightning_nndyn.graph.tracing.layer_calls import ExternalAxis, LayerCall, LayerInput
from lightning_nndyn.graph.tracing.layer_kinds import EMBEDDING, LINEAR, product_kind
from lightning_nndyn.graph.tracing.operation import Operation
from lightning_nndyn.graph.tracing.origins import (
    NO_ORIGINS,
    ChannelOrigins,
    carries_origins,
    elementwise,
    output_origins,
    unknown_layout,
)
from lightning_nndyn.graph.tracing.parameters import ParameterTable, Weight
from lightning_nndyn.graph.tracing.propagation import propagate
from lightning_nndyn.graph.tracing.tensor_origins import OriginTable

CONVOLUTIONS = frozenset("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d".split())
EMBEDDINGS = frozenset(("embedding", "embedding_bag"))
_MATRIX_PRODUCTS = frozenset("matmul mm __matmul__ addmm".split())
# With a weight among their tensors, these have no meaning in a rolled graph.
_OTHER_PRODUCTS = frozenset(
    """bilinear bmm baddbmm einsum tensordot inner conv_tbc mv addmv chain_matmul __rmatmul__ _grouped_mm
    grouped_mm""".split()
)
OTHER_WEIGHTS = "called with weights that are not its own (functional_call, hypernetwork): passed through"
PRODUCTS = _MATRIX_PRODUCTS.union(_OTHER_PRODUCTS, COMPOSITES)
# Where two activations are multiplied by these, the network attends.
_ATTENTION = frozenset("matmul mm __matmul__ bmm baddbmm addbmm einsum scaled_dot_product_attention".split())


class CallRecorder:
    """What is known of one forward pass.

    Args:
        parameters: the model's weights.
        origins: the origins of all tensors.

    Attributes:
        calls: the layer calls, in their order, by number. External axes are numbered with them.
        external_axes: the labelled axes of tensors from outside, by number.
        refused: weights that have no meaning in a rolled graph, with the reason.
        accepted: weights in the graph that were refused elsewhere.
        attends: whether activations were multiplied by activations.
        parameters: the model's weights.
        origins: the origins of all tensors.
    """

    def __init__(self, parameters: ParameterTable, origins: OriginTable) -> None:
        self.calls: dict[int, LayerCall] = {}
        self.external_axes: dict[int, ExternalAxis] = {}
        self.refused: dict[str, str] = {}
        self.accepted: set[str] = set()
        self.attends = False
        self.parameters, self.origins = parameters, origins
        self._external_tensors = 0

    def label_axes(self, tensor: Tensor) -> ChannelOrigins:
        """Labels every axis of a tensor from outside."""
        label_maps: list[Tensor] = []
        for axis, size in enumerate(tensor.shape):
            number = self._next_number()
            self.external_axes[number] = ExternalAxis(self._external_tensors, axis, size)
            label_maps += output_origins(number, size, axis, tensor.dim()).label_maps
        self._external_tensors += 1
        return ChannelOrigins(tuple(label_maps))

    def _next_number(self) -> int:
        return len(self.calls) + len(self.external_axes)

    # -- what has happened -----------------------------------------------------------------------------------

    def record_operation(self, operation: Operation) -> list[ChannelOrigins]:
        """Records an operation that was run, and returns the origins of its outputs."""
        found = self._layer_call(operation)
        if found is not None:
            return found
        self.attends |= operation.name in _ATTENTION and self._multiplies_layers(operation)
        return propagate(operation, self.origins.__getitem__)

    def _multiplies_layers(self, operation: Operation) -> bool:
        """Whether at least two of an operation's tensors were made by layers."""
        made = [tensor for tensor in operation.tensors if self.origins[tensor].sources & self.calls.keys()]
        return len(made) > 1

    def record_custom_layer(
        self, name: str, module: nn.Module, layer: CustomLayer, x: Tensor, out: Tensor
    ) -> None:
        """Records a call of a module whose class `register_layer` has described."""
        if self.parameters.runs_with_others(module):
            return self.refuse(name, OTHER_WEIGHTS)
        weight = self.parameters.custom(name, layer.read)
        size = x.shape[layer.axis]
        groups = layer.groups_of(module)
        layer_input = LayerInput(weight, self.origins[x], layer.axis, size, groups, layer.transposed)
        size, kind = out.shape[layer.axis], type(module).__name__
        made = self.add_call(weight.layer, name, size, [layer_input], layer.axis, out, kind)
        self.origins.record(out, made)

    def record_module_outputs(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """What a module returned unseen (from compiled or scripted code) was made of what it was given."""
        for tensor in outputs:
            if tensor not in self.origins:
                made = unknown_layout([(x, self.origins[x]) for x in inputs])
                self.origins.record(tensor, made if carries_origins(tensor) else NO_ORIGINS)

    # -- layer calls -----------------------------------------------------------------------------------------

    def _layer_call(self, operation: Operation) -> list[ChannelOrigins] | None:
        """Records a layer call and returns the origins of its outputs; None if the operation is none."""
        name = operation.name
        if name in EMBEDDINGS:
            return self._embedding(operation)
        if name == "linear" or name in CONVOLUTIONS:
            return [self._layer_function(operation)]
        if name not in PRODUCTS:
            return None
        found = None
        if name in COMPOSITES:
            found = COMPOSITES[name](self, operation)
        elif name in _MATRIX_PRODUCTS:
            found = self._matrix_product(operation)
        return self._pass_through(operation) if found is None else found

    def _embedding(self, operation: Operation) -> list[ChannelOrigins] | None:
        weight = self.parameters.find(operation.argument(1, "weight"))
        if weight is None:
            return None
        first, *rest = operation.outputs
        made = self.add_call(weight.layer, weight.module, first.shape[-1], [], -1, first, EMBEDDING)
        return [made, *(NO_ORIGINS for _ in rest)]

    def _layer_function(self, operation: Operation) -> ChannelOrigins:
        """``F.linear`` or a convolution."""
        name, out = operation.name, operation.outputs[0]
        x, tensor = operation.argument(0, "input"), operation.argument(1, "weight")
        groups = 1 if name == "linear" else operation.argument(6, "groups", default=1)
        axis = 1 - tensor.dim() if name in CONVOLUTIONS else -1
        weight = self.parameters.find(tensor) or self.parameters.find_computed(tensor)
        if weight is None:  # a fixed filter, or one that another layer has made
            self._refuse_other_weights()
            return unknown_layout([(one, self.origins[one]) for one in (x, tensor)])
        refuse_tensor_parallel(tensor, weight.layer)
        transposed = name.startswith("conv_transpose")
        layer_input = LayerInput(weight, self.origins[x], axis, x.shape[axis], groups, transposed)
        kind = product_kind(name, groups, x.shape[axis])
        made = self.add_call(weight.layer, weight.module, out.shape[axis], [layer_input], axis, out, kind)
        return self._with_addend(made, operation.argument(2, "bias"), out)

    def _refuse_other_weights(self) -> None:
        name, module = self.parameters.running
        if module is not None and self.parameters.runs_with_others(module):
            self.refuse(name, OTHER_WEIGHTS)

    def _matrix_product(self, operation: Operation) -> list[ChannelOrigins] | None:
        """``x @ weight`` or ``weight @ x``; None if neither factor is a weight."""
        left, right = operation.args[-2:]
        addend = operation.args[0] if operation.name == "addmm" else None
        out = operation.outputs[0]
        for tensor, x, axis in ((right, left, -1), (left, right, -2)):
            weight = self.parameters.find(tensor)
            if weight is not None and tensor.dim() == 2 and x.dim() >= -axis:
                layer_input = LayerInput(weight, self.origins[x], axis, x.shape[axis], transposed=axis == -1)
                size = out.shape[axis]
                made = self.add_call(weight.layer, weight.module, size, [layer_input], axis, out, LINEAR)
                return [self._with_addend(made, addend, out)]
        return None

    def _with_addend(self, made: ChannelOrigins, addend: Tensor | None, out: Tensor) -> ChannelOrigins:
        """The origins of a product plus a bias, which other layers may have made."""
        if addend is None or not self.origins[addend]:
            return made
        return elementwise([(out, made), (addend, self.origins[addend])], out)

    def _pass_through(self, operation: Operation) -> list[ChannelOrigins] | None:
        """An operation with a weight that has no meaning in the graph; None if it has no weight."""
        weights = list(self.weights_of(operation))
        if not weights:
            return None
        for weight in weights:
            reason = f"{operation.name} has no meaning in a rolled graph: it is passed through"
            self.refuse(weight.layer, reason)
        lost = unknown_layout([(tensor, self.origins[tensor]) for tensor in operation.tensors])
        return [lost if carries_origins(tensor) else NO_ORIGINS for tensor in operation.outputs]

    def weights_of(self, operation: Operation) -> Iterator[Weight]:
        """The weights among an operation's tensors, without biases."""
        found = (self.parameters.find(tensor) for tensor in operation.tensors if tensor.dim() > 1)
        return (weight for weight in found if weight is not None)

    def refuse(self, name: str, reason: str) -> None:
        """Leaves a weight out of the graph, unless it is accepted elsewhere."""
        self.refused[name] = reason

    def accept(self, name: str) -> None:
        """Takes back a refusal, for good."""
        self.accepted.add(name)

    def add_call(
        self,
        name: str,
        module: str,
        size: int,
        inputs: Sequence[LayerInput],
        axis: int,
        out: Tensor,
        kind: str,
    ) -> ChannelOrigins:
        """Records a layer call, see `LayerCall`.

        Returns:
            The origins of its output, with ``size`` channels along ``axis`` of a tensor like ``out``.
        """
        number = self._next_number()
        self.calls[number] = LayerCall(name, module, size, inputs, kind)
        return output_origins(number, size, axis, out.dim())
