"""What is known of the values of a model: element type, shape, and which are the same number under another name."""

from __future__ import annotations

from functools import cached_property

import onnx_ir as ir

from rms_deploy.onnx_model.inference import Known, Shape, dims_of, infer
from rms_deploy.ops.element_types import HALF

__all__ = ["Facts", "is_op"]

_LOSSLESS = {
    *((half, ir.DataType.FLOAT) for half in HALF),
    *((dtype, ir.DataType.DOUBLE) for dtype in (*HALF, ir.DataType.FLOAT)),
}
"""Casts, from a type to another, that change no number."""

_ONE_TYPE = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "MatMul", "Gemm", "Concat"), None),
    **dict.fromkeys(("Sqrt", "Reciprocal", "Neg", "Abs", "Exp", "Tanh", "Sigmoid", "Identity"), None),
    **dict.fromkeys(("Pow", "ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", "Reshape", "Transpose"), 1),
    **dict.fromkeys(("Unsqueeze", "Squeeze", "Slice", "Gather", "Expand", "Clip", "Softmax", "LpNormalization"), 1),
    "GlobalAveragePool": 1,
}
"""Operators whose output has the type of their inputs: of all (None), or of so many from the first on."""

_MAX_RELATIVES = 32
"""Values of the same type, one after another, among which one with a known type is looked for."""

_SHAPE_KEEPERS = (
    "Abs", "Cast", "CastLike", "Identity", "Neg", "Relu", "Sigmoid", "Sqrt", "Tanh", "Exp", "Reciprocal", "Gelu"
)  # fmt: skip


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether `node` is one of these operators of the ONNX domain."""
    return node is not None and node.domain == "" and node.op_type in op_types


class Facts:
    """Types and shapes of one model, as far as they can be proven.

    What the file says comes first. Where it is silent, shape inference runs once, on a copy without large weights;
    the model itself is not changed. Names are the keys of what was inferred, so facts survive the replacement of a
    value by one of the same name.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self._by_use: dict[int, tuple[ir.Value, ir.DataType | None]] = {}

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        """Element type, or None where it cannot be known."""
        return self._own_dtype(value) or self._inferred_of(value)[0] or self._dtype_by_use(value)

    def shape(self, value: ir.Value) -> Shape | None:
        """Dims: int where static, a symbol where the model names one, None where nothing is known. None: no rank."""
        own = dims_of(value.shape if value.const_value is None else value.const_value.shape)
        if own is not None and None not in own:
            return own
        inferred = self._inferred_of(value)[1]
        if own is None or inferred is None or len(own) != len(inferred):
            return own if own is not None else inferred
        return tuple(b if a is None else a for a, b in zip(own, inferred, strict=True))

    def rank(self, value: ir.Value) -> int | None:
        """Number of dims, or None."""
        shape = self.shape(value)
        return None if shape is None else len(shape)

    def same_shape(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether both have one shape, proven: each dim the same number or the same symbol."""
        return _equal(self.shape(a), self.shape(b)) or _equal(self._inferred_of(a)[1], self._inferred_of(b)[1])

    def has_shape_of(self, value: ir.Value | None, x: ir.Value) -> bool:
        """Whether `value` has the shape of `x`: it is x, computed from it element by element, or proven."""
        for _ in range(8):
            if value is None:
                return False
            if self.same(value, x) or self.same_shape(value, x):
                return True
            node = value.producer()
            keeps = is_op(node, *_SHAPE_KEEPERS) or (is_op(node, "Mul") and node and node.inputs[0] is node.inputs[1])
            if node is None or not keeps:
                return False
            value = node.inputs[0]
        return False

    def is_expanded_to(self, node: ir.Node, x: ir.Value) -> bool:
        """Whether an Expand gives the shape of `x`, proven by the shapes or by where its target comes from."""
        if self.same_shape(node.outputs[0], x):
            return True
        target = node.inputs[-1]
        shape = None if target is None else self.origin(target).producer()
        if shape is None or not is_op(shape, "Shape") or shape.attributes:
            return False
        return self.has_shape_of(shape.inputs[0], x)

    def unexpanded(self, value: ir.Value, x: ir.Value) -> ir.Value:
        """`value` as it was before it was expanded to the shape of `x`, which an operator beside x does by itself."""
        node = self.origin(value).producer()
        if node is None or not is_op(node, "Expand") or node.inputs[0] is None:
            return value
        return node.inputs[0] if self.is_expanded_to(node, x) else value

    def is_overridable(self, value: ir.Value) -> bool:
        """Whether a caller may replace this initialiser: it is a graph input too, and the IR is not older than 4."""
        return value.is_initializer() and value.is_graph_input() and self.model.ir_version >= 4

    def origin(self, value: ir.Value) -> ir.Value:
        """The value behind Identity, casts to the own type, and casts that lose nothing (float16 to float32)."""
        while (source := self._lossless_source(value)) is not None:
            value = source
        return value

    def same(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether two values of one type hold the same numbers."""
        return a is b or self.origin(a) is self.origin(b)

    def cast_type(self, node: ir.Node) -> ir.DataType | None:
        """What a Cast or CastLike casts to; None where that is not known."""
        if is_op(node, "CastLike") and len(node.inputs) == 2 and node.inputs[1] is not None:
            return self.dtype(node.inputs[1])
        to = node.attributes.get("to")
        return None if to is None or to.is_ref() else ir.DataType(to.as_int())

    def _lossless_source(self, value: ir.Value) -> ir.Value | None:
        node = value.producer()
        if node is None or not is_op(node, "Identity", "Cast", "CastLike"):
            return None
        source = node.inputs[0]
        if source is None or node.op_type == "Identity":
            return source
        old, new = self.dtype(source), self.cast_type(node)
        return source if old is not None and (old == new or (old, new) in _LOSSLESS) else None

    def _own_dtype(self, value: ir.Value) -> ir.DataType | None:
        """What the file says of `value` itself, or the node that makes it."""
        if value.dtype is not None:
            return value.dtype
        if value.const_value is not None:
            return value.const_value.dtype
        node = value.producer()
        if node is None or not is_op(node, "Cast", "Constant"):
            return None
        return self.cast_type(node) if node.op_type == "Cast" else _constant_dtype(node)

    def _dtype_by_use(self, value: ir.Value) -> ir.DataType | None:
        """The type of another value that must have the same type, as both are operands of one operator."""
        if id(value) not in self._by_use:
            self._by_use[id(value)] = (value, self._search_dtype(value))
        return self._by_use[id(value)][1]

    def _search_dtype(self, value: ir.Value) -> ir.DataType | None:
        waiting, seen = [value], {id(value)}
        for relative in waiting:
            producer = relative.producer()
            for node in (*(() if producer is None else (producer,)), *relative.consumers()):
                for other in _same_type(node, relative):
                    dtype = self._own_dtype(other) or self._inferred_of(other)[0]
                    if dtype is not None:
                        return dtype
                    if id(other) not in seen and len(waiting) < _MAX_RELATIVES:
                        seen.add(id(other))
                        waiting.append(other)
        return None

    def _inferred_of(self, value: ir.Value) -> Known:
        return self._inferred.get((id(value.graph), value.name), (None, None))

    @cached_property
    def _inferred(self) -> dict[tuple[int, str | None], Known]:
        return infer(self.model)


def _same_type(node: ir.Node, value: ir.Value) -> list[ir.Value]:
    """All operands of `node` that have the type of `value`, by the definition of the operator."""
    if node.domain != "" or node.op_type not in _ONE_TYPE:
        return []
    operands = [*node.inputs[: _ONE_TYPE[node.op_type]], node.outputs[0]]
    return [other for other in operands if other is not None] if any(value is other for other in operands) else []


def _constant_dtype(node: ir.Node) -> ir.DataType | None:
    attribute = next(iter(node.attributes.values()), None)
    if attribute is None or attribute.type != ir.AttributeType.TENSOR or attribute.is_ref():
        name = "" if attribute is None else attribute.name
        return ir.DataType.FLOAT if name in ("value_float", "value_floats") else None
    return attribute.as_tensor().dtype


def _equal(a: Shape | None, b: Shape | None) -> bool:
    return a is not None and a == b and None not in a
