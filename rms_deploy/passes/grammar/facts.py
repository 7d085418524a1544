"""What is known of the values of a model: element type, shape, and which are the same number under another name."""

from __future__ import annotations

from functools import cached_property

import onnx_ir as ir

from rms_deploy.passes.grammar.inference import Known, Shape, dims_of, infer

__all__ = ["ELEMENT_NAMES", "Facts", "is_op"]

ELEMENT_NAMES = {ir.DataType.FLOAT: "float32", ir.DataType.FLOAT16: "float16", ir.DataType.BFLOAT16: "bfloat16"}
"""Element types that the contract has, with their contract names."""

_WIDER = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


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

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        """Element type, or None where it cannot be known."""
        if value.dtype is not None:
            return value.dtype
        if value.const_value is not None:
            return value.const_value.dtype
        node = value.producer()
        if node is not None and is_op(node, "Cast"):
            return self.cast_type(node)
        return self._inferred_of(value)[0]

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
        lossless = old is not None and (old == new or (old in _WIDER and new == ir.DataType.FLOAT))
        return source if lossless else None

    def _inferred_of(self, value: ir.Value) -> Known:
        return self._inferred.get((id(value.graph), value.name), (None, None))

    @cached_property
    def _inferred(self) -> dict[tuple[int, str | None], Known]:
        return infer(self.model)


def _equal(a: Shape | None, b: Shape | None) -> bool:
    return a is not None and a == b and None not in a
