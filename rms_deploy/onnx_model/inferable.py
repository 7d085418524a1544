"""What onnx's shape inference is given of a graph: no large weights, and no shape that only a declaration says.

Shapes inside a graph are not given to onnx where it can infer them: no runtime enforces what a file says of them, and
exporters name a dim anew at every operator, while one dim that is inferred has one name from the inputs on.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Final

import onnx
import onnx.helper
import onnx_ir as ir
from onnx_ir import serde

from rms_deploy.onnx_model.body_protos import SMALL, WITH_BODIES, Constants, prepare_bodies
from rms_deploy.onnx_model.data_propagation import MAX_LENGTH, may_propagate
from rms_deploy.onnx_model.precise_ops import precise_op
from rms_deploy.onnx_model.stand_ins import put_norm_in, stand_in
from rms_deploy.ops.contract import DOMAIN, VERSION

__all__ = ["Dim", "GraphForInference", "Known", "Shape", "dims_of", "known_of"]

Dim = int | str | None
Shape = tuple[Dim, ...]
Known = tuple[ir.DataType | None, Shape | None]

_OURS: Final = f"length {secrets.token_hex(8)} "
"""Begins the symbols of our own; no file can hold it."""

_KNOWN_DOMAINS: Final = ("", DOMAIN)
"""The domains whose operators onnx can infer."""


class GraphForInference:
    """A graph of a model as the main graph of a proto, which is filled in steps: inputs, then `add_content`."""

    def __init__(self, model: ir.Model, graph: ir.Graph) -> None:
        self.model = model
        self.graph = graph
        self.propagates_data = may_propagate(graph)
        """Whether onnx may follow the elements of vectors, as shape computations need it."""
        self.lengths: dict[str, int] = {}
        """What symbols of our own stand for."""
        self.foreign_bodies: list[ir.Graph] = []
        """The graphs that operators unknown to onnx have as attributes; filled by `add_content`."""
        self.proto = onnx.ModelProto(ir_version=model.ir_version)
        for domain, version in {DOMAIN: VERSION, **model.opset_imports, **graph.opset_imports}.items():
            self.proto.opset_import.add(domain=domain, version=version)
        self.proto.graph.name = graph.name or "graph"

    def add_functions(self) -> None:
        """The local functions, for onnx to inline."""
        for function in self.model.functions.values():
            proto = self.proto.functions.add()
            serde.serialize_function_into(proto, function, create_value_info=False)
            constants = Constants(proto.node)
            for node in proto.node:
                put_norm_in(node)
                prepare_bodies(node, constants, self._is_foreign)

    def add_declared_inputs(self) -> None:
        """The inputs as the file declares them."""
        _add_values(self.proto.graph.input, self.graph.inputs)
        for info in self.proto.graph.input:
            self._hide_length(info.type.tensor_type)

    def add_input(self, name: str | None, dtype: ir.DataType, shape: Shape | None) -> None:
        """One input."""
        info = onnx.helper.make_tensor_value_info(name or "", int(dtype), shape)
        self.proto.graph.input.append(info)
        self._hide_length(self.proto.graph.input[-1].type.tensor_type)

    def add_content(self) -> None:
        """The initialisers, the nodes and the outputs."""
        graph = self.proto.graph
        for value in self.graph.initializers.values():
            self._add_initializer(value)
        constants = Constants(graph.node, graph.initializer)
        for node in self.graph:
            if not stand_in(node, graph) and not precise_op(node, graph):
                proto = graph.node.add()
                serde.serialize_node_into(proto, node)
                put_norm_in(proto)
                if node.op_type in WITH_BODIES:
                    prepare_bodies(proto, constants, self._is_foreign)
            if self._is_foreign(node):  # what the file says is all there is
                _add_values(graph.value_info, (v for v in node.outputs if v.name and not v.is_graph_output()))
                self.foreign_bodies += (
                    attribute.as_graph()
                    for attribute in node.attributes.values()
                    if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref()
                )
        for value in self.graph.outputs:
            info = graph.output.add(name=value.name)
            if value.type is not None:
                serde.serialize_type_into(info.type, value.type)
            producer = value.producer()
            if value.shape is not None and producer is not None and self._is_foreign(producer):
                serde.serialize_shape_into(info.type, value.shape)

    def _add_initializer(self, value: ir.Value) -> None:
        tensor = value.const_value
        if tensor is None or (value.is_graph_input() and self.model.ir_version >= 4):  # or a caller may replace it
            return
        if tensor.nbytes <= SMALL:
            initializer = self.proto.graph.initializer.add()
            serde.serialize_tensor_into(initializer, tensor)
            initializer.name = value.name or ""  # which a tensor in memory need not share
        elif not value.is_graph_input():
            self.add_input(value.name, tensor.dtype, dims_of(tensor.shape))

    def _hide_length(self, tensor: onnx.TypeProto.Tensor) -> None:
        """Put a symbol for the length of a long vector."""
        if len(tensor.shape.dim) == 1 and tensor.shape.dim[0].dim_value > MAX_LENGTH:
            length = tensor.shape.dim[0].dim_value
            symbol = f"{_OURS}{length}"
            self.lengths[symbol] = length
            tensor.shape.dim[0].dim_param = symbol

    def known(self, tensor: onnx.TypeProto.Tensor) -> Known:
        """What onnx inferred, with the lengths that were hidden."""
        dtype, shape = known_of(tensor)
        if shape is not None and self.lengths:
            shape = tuple(self.lengths.get(dim, dim) if isinstance(dim, str) else dim for dim in shape)
        return dtype, shape

    def _is_foreign(self, node: ir.Node | onnx.NodeProto) -> bool:
        """Whether onnx cannot tell what `node` gives."""
        if node.domain in _KNOWN_DOMAINS:
            return False
        return (node.domain, node.op_type, node.overload) not in self.model.functions


def known_of(tensor: onnx.TypeProto.Tensor) -> Known:
    """The element type and the dims of a proto."""
    dtype = ir.DataType(tensor.elem_type) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return dtype, None
    return dtype, tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim)


def dims_of(shape: ir.ShapeProtocol | None) -> Shape | None:
    """The dims of an onnx-ir shape."""
    if shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in shape.dims)


def _add_values(infos: onnx.GraphProto, values: Iterable[ir.Value]) -> None:
    for value in values:
        if value.type is not None:
            serde.serialize_value_into(infos.add(), value)
