"""The nodes that a norm of ours is split into."""

from __future__ import annotations

from typing import Any, Final

import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.ops.contract import Op
from rms_deploy.ops.nodes import int_of, scale_of, shaped_inputs

__all__ = ["NormParts", "rounds_first"]

_FLOAT32: Final = ir.DataType.FLOAT


class NormParts:
    """New nodes for the place of one node of ours, with its notes, and values with their types and shapes."""

    def __init__(self, node: ir.Node, into: NewNodes) -> None:
        """`node`, which `settle` replaces."""
        self._node, self._into = node, into
        self._made: list[ir.Node] = []

    def add(self, op_type: str, *inputs: ir.Value, to: ir.DataType = _FLOAT32) -> ir.Value:
        """What a node of ONNX gives of `inputs`, in type `to`."""
        like_x = inputs[0] not in self._node.inputs or inputs[0] in shaped_inputs(self._node)
        made = ir.node(op_type, inputs, {"to": to} if op_type == "Cast" else None)
        made.outputs[0].type = ir.TensorType(to)
        made.outputs[0].shape = self._node.outputs[0].shape if like_x else inputs[0].shape
        self._made.append(made)
        return made.outputs[0]

    def cast(self, value: ir.Value, to: ir.DataType) -> ir.Value:
        """`value`, in type `to`."""
        return value if value.dtype == to else self.add("Cast", value, to=to)

    def constant(self, array: NDArray[Any]) -> ir.Value:
        """A Constant node: functions have no initialisers."""
        tensor = ir.tensor(array)
        made = ir.node("Constant", [], {"value": tensor})
        made.outputs[0].type, made.outputs[0].shape = ir.TensorType(tensor.dtype), ir.Shape(array.shape)
        self._made.append(made)
        return made.outputs[0]

    def unit_scale(self) -> ir.Value:
        """A float32 scalar of one."""
        return self._into.unit_scale(self._node)

    def norm(self, op: Op, *inputs: ir.Value) -> ir.Node:
        """The node with the name and the attributes of the old one. It scales in float32 where its X is float32."""
        names = {attribute.name for attribute in op.attributes}
        dropped = "scale_type" if inputs[0].dtype == _FLOAT32 else ""
        made = ir.Node(
            self._node.domain,
            op.name,
            inputs,
            [value for name, value in self._node.attributes.items() if name in names and name != dropped],
            num_outputs=len(op.outputs),
            name=self._node.name,
            doc_string=self._node.doc_string,
        )
        for value, source in zip(made.outputs, inputs, strict=False):  # Sum has the type of R
            value.type = None if source.dtype is None else ir.TensorType(source.dtype)
            value.shape = self._node.outputs[0].shape
        made.meta.update(self._node.meta)
        self._made.append(made)
        return made

    def scaled(self, op: Op, wide: ir.Value) -> tuple[ir.Node, ir.Value]:
        """`op` of float32 `wide`, scaled and rounded to the type of X as the old node is.

        Returns:
            The norm, and what comes out. Where that is rounded first, the norm has a scale of one, and a Mul follows.
        """
        x, scale = self._node.inputs[0], scale_of(self._node)
        assert x is not None
        assert x.dtype is not None
        assert scale is not None
        if not rounds_first(self._node):
            norm = self.norm(op, wide, self.cast(scale, _FLOAT32))
            return norm, self.cast(norm.outputs[0], x.dtype)
        norm = self.norm(op, wide, self._into.unit_scale(self._node))
        y = self.cast(norm.outputs[0], x.dtype)
        return norm, self.add("Mul", y, self.cast(scale, x.dtype), to=x.dtype)

    def settle(self, *ends: ir.Value) -> None:
        """Put the nodes into the place of the old one, whose outputs `ends` become."""
        for value, old in zip(ends, self._node.outputs, strict=True):
            value.name, value.type, value.shape = old.name, old.type or value.type, old.shape
        for made in self._made:
            made.metadata_props.update(self._node.metadata_props)
        self._into.replace(self._node, self._made, ends)


def rounds_first(node: ir.Node) -> bool:
    """Whether a norm of a half type is rounded to it before it is scaled."""
    x = node.inputs[0]
    return x is not None and x.dtype != _FLOAT32 and int_of(node, "scale_type") != _FLOAT32
