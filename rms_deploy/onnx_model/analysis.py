"""What is known of the values of a model: element type, shape, and which are the same number under another name."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.onnx_model.equal_values import are_equal
from rms_deploy.onnx_model.inference import Dim, Known, Shape, dims_of, infer
from rms_deploy.onnx_model.same_type import same_type
from rms_deploy.ops.element_types import HALF
from rms_deploy.ops.nodes import graphs_of

__all__ = ["Facts", "is_op"]

_LOSSLESS = {
    *((half, ir.DataType.FLOAT) for half in HALF),
    *((dtype, ir.DataType.DOUBLE) for dtype in (*HALF, ir.DataType.FLOAT)),
}
"""Casts, from a type to another, that change no number."""

_MAX_STEPS = 64
"""Nodes in a row that hand a value on, beyond which its origin is not looked for."""

_SHAPE_KEEPERS = (
    "Abs", "Cast", "CastLike", "Identity", "Neg", "Relu", "Sigmoid", "Sqrt", "Tanh", "Exp", "Reciprocal", "Gelu"
)  # fmt: skip

_BROADCASTING = ("Add", "Sub", "Mul", "Div")


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether `node` is one of these operators of the ONNX domain."""
    return node is not None and node.domain == "" and node.op_type in op_types


class Facts:
    """Types and shapes of one model, as far as they can be proven.

    A shape is proven by what a runtime enforces, and by nothing else that a file says:

    1. The inputs of the main graph have the ranks and the fixed sizes that they declare (what is fed for a scalar ONNX
       Runtime does not look at); an initialiser that no caller may replace has its own shape.
    2. Shape inference by onnx tells the rest, from these. It runs once, on a copy without large weights.
    3. What a Loop carries keeps the shape that it comes with if the body gives that shape back (`carried_shapes`).
    4. What an operator gives that onnx does not know has the shape that the file says: nobody knows more.

    What the file says of all other values is not used: of results, of branches, of what loops carry, of functions. No
    runtime enforces it, and an edited model still says what was true before. One symbol at several inputs is one size,
    as ONNX defines it. A caller who breaks that gets an error where a fused op relies on it, and not other numbers:
    only a residual Add does. What would give other numbers asks for sizes or symbols that a single dim has.

    Element types are enforced, as a model that contradicts itself does not load, but for those inside local functions:
    these are inferred from what all callers pass.

    Names are the keys of what was inferred, so facts survive the replacement of a value by one of the same name.
    """

    def __init__(self, model: ir.Model, *, thorough: bool = False) -> None:
        """Of `model`; `thorough`: infer several times where that may tell more."""
        self.model = model
        self._thorough = thorough
        self._by_use: dict[ir.Value, ir.DataType | None] = {}
        self.constants: dict[ir.Value, NDArray[Any] | None] = {}
        """The elements of values that `constants` has looked at; None: they are not the same in every run."""
        self.visits: Counter[object] = Counter()
        """How often `search` came to a value in doubt."""
        self.samples: list[dict[str | None, Shape | None]] | None = None
        """The shapes at the sizes that `sampled_shapes` tries; None: it was not asked yet."""
        self._made: dict[ir.Value, Shape | None] = {}
        self._declared = {
            value
            for graph in graphs_of(model)
            for value in (*(() if graph is model.graph else graph.inputs), *(o for node in graph for o in node.outputs))
        }
        """The values of which the file may say what nobody enforces. Of others, passes say what they know."""
        self._in_functions = {
            value
            for function in model.functions.values()
            for graph in (function.graph, *function.graph.subgraphs())
            for value in (*graph.inputs, *(o for node in graph for o in node.outputs))
        }

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        """Element type, or None where it cannot be known."""
        return self._own_dtype(value) or self._inferred_of(value)[0] or self._dtype_by_use(value)

    def shape(self, value: ir.Value) -> Shape | None:
        """Dims: int where static, a symbol where the model names one, None where nothing is known. None: no rank."""
        if value in self._made:
            return self._made[value]
        if value.const_value is not None and not self.is_overridable(value):
            return dims_of(value.const_value.shape)
        inferred = self._inferred_of(value)[1]
        return dims_of(value.shape) if inferred is None and value not in self._declared else inferred

    def add(self, value: ir.Value, *, like: ir.Value) -> None:
        """Take note of a `value` that a pass has made, and that has the shape of another."""
        self._made[value] = self.shape(like)

    def note(self, value: ir.Value, shape: Shape | None) -> None:
        """Take note of the shape of `value` that a pass has found."""
        self._made[value] = shape

    def likely_shape(self, value: ir.Value) -> Shape | None:
        """The shape, where it is proven, else what the file says: for people, and to make up inputs."""
        shape = self.shape(value)
        return dims_of(value.shape) if shape is None else shape

    def rank(self, value: ir.Value) -> int | None:
        """Number of dims, or None."""
        shape = self.shape(value)
        return None if shape is None else len(shape)

    def same_shape(self, a: ir.Value, b: ir.Value, *, exactly: bool = True) -> bool:
        """Whether both have one shape: each dim the same number or the same symbol.

        `exactly`: a symbol that several dims have from the start proves nothing, as no runtime holds them equal.
        """
        one, other = self.shape(a), self.shape(b)
        if one is None or one != other or None in one:
            return False
        return not exactly or self._ambiguous.isdisjoint(dim for dim in one if isinstance(dim, str))

    def are_alike(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether both have one shape, one symbol at several inputs being one size.

        onnx cannot tell that a sequence and its positions are equally long. So two sums or products have one shape too
        where their operands have, pair by pair, as the halves of a rotary embedding have.
        """
        if self.same_shape(a, b, exactly=False):
            return True
        one, other = a.producer(), b.producer()
        if one is None or other is None or not (is_op(one, *_BROADCASTING) and is_op(other, *_BROADCASTING)):
            return False
        pairs = zip(one.inputs, other.inputs, strict=True)
        return all(x is not None and y is not None and self.same_shape(x, y, exactly=False) for x, y in pairs)

    def same_dim(self, a: Dim, b: Dim) -> bool:
        """Whether two dims are the same number, or the same symbol of a single dim."""
        return a is not None and a == b and a not in self._ambiguous

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

    def is_in_branch(self, node: ir.Node, of: ir.Node) -> bool:
        """Whether `node` is in the graph of another node, or in a branch of an If in it: it runs at most as often."""
        graph = node.graph
        while graph is not of.graph:
            owner = self._owners.get(id(graph))
            if owner is None or not is_op(owner, "If"):
                return False
            graph = owner.graph
        return True

    def is_overridable(self, value: ir.Value) -> bool:
        """Whether a caller may replace this initialiser: it is a graph input too, and the IR is not older than 4."""
        return value.is_initializer() and value.is_graph_input() and self.model.ir_version >= 4

    def origin(self, value: ir.Value) -> ir.Value:
        """The value behind Identity, casts to the own type, and casts that lose nothing (float16 to float32)."""
        for _ in range(_MAX_STEPS):
            source = self._lossless_source(value)
            if source is None:
                break
            value = source
        return value

    def same(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether two values of one type hold the same numbers: one is the other, or both are computed alike."""
        return a is b or are_equal(a, b, origin=self.origin, dtype=self.dtype, is_overridable=self.is_overridable)

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
        if value.dtype is not None and value not in self._in_functions:
            return value.dtype
        if value.const_value is not None:
            return value.const_value.dtype
        node = value.producer()
        if node is None or not is_op(node, "Cast", "Constant"):
            return None
        return self.cast_type(node) if node.op_type == "Cast" else _constant_dtype(node)

    def _dtype_by_use(self, value: ir.Value) -> ir.DataType | None:
        """The type of another value that must have the same type, as both are operands of one operator."""
        if value not in self._by_use:
            relatives, dtype = same_type(value, self._known_dtype)
            self._by_use.update(dict.fromkeys(relatives, dtype))
        return self._by_use[value]

    def _known_dtype(self, value: ir.Value) -> ir.DataType | None:
        return self._own_dtype(value) or self._inferred_of(value)[0] or self._by_use.get(value)

    def _inferred_of(self, value: ir.Value) -> Known:
        return self._inferred.get((id(value.graph), value.name), (None, None))

    @cached_property
    def _owners(self) -> dict[int, ir.Node]:
        """The nodes whose attributes are graphs, by the ids of these."""
        return {
            id(attribute.as_graph()): node
            for graph in graphs_of(self.model)
            for node in graph
            for attribute in node.attributes.values()
            if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref()
        }

    @cached_property
    def _inferred(self) -> dict[tuple[int, str | None], Known]:
        return infer(self.model, thorough=self._thorough)

    @cached_property
    def _ambiguous(self) -> frozenset[str]:
        """The symbols of more than one dim of what is not inferred: inputs, and results of unknown operators."""
        values = list(self.model.graph.inputs)
        for graph in graphs_of(self.model):
            values.extend(() if graph is self.model.graph else graph.inputs)
            values.extend(output for node in graph if node.domain != "" for output in node.outputs)
        symbols = Counter(
            dim for value in dict.fromkeys(values) for dim in dims_of(value.shape) or () if isinstance(dim, str)
        )
        return frozenset(symbol for symbol, count in symbols.items() if count > 1)


def _constant_dtype(node: ir.Node) -> ir.DataType | None:
    attribute = next(iter(node.attributes.values()), None)
    if attribute is None or attribute.type != ir.AttributeType.TENSOR or attribute.is_ref():
        name = "" if attribute is None else attribute.name
        return ir.DataType.FLOAT if name in ("value_float", "value_floats") else None
    return attribute.as_tensor().dtype
