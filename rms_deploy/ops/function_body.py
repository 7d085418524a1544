"""The body of each op as an ONNX function, so that a model runs where our library is not.

The body is spelled Pow, ReduceMean, Add, Sqrt, Div, Mul: the form that ONNX Runtime's and TensorRT's optimisers know.
It is driven by the attributes of the op, with no `rms_epsilon` or `rms_min` arithmetic where all nodes have the
default. Where ONNX Runtime would fuse it wrongly, it squares by Mul, which no optimiser takes for a part of a norm.

`function_body` does not depend on element types, as other tools convert a model and leave its functions as they are:
X is cast to float32, and Y to whatever X is. The text is one for all opsets from 18 on. `node_body` is for one node,
whose element types stay what they are, and has the casts only that the node needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.ops.contract import DOMAIN, ELEMENT_TYPES, Op
from rms_deploy.ops.misread_scale import is_misread
from rms_deploy.ops.nodes import axes_of

__all__ = ["CAST_LIKE_OPSET", "CONSTANT_OPSET", "function_body", "node_body"]

_FLOAT32 = ELEMENT_TYPES["float32"]
CONSTANT_OPSET: Final = 12
"""The first in which a Constant takes its value from an attribute of the function around it, as value_float."""
CAST_LIKE_OPSET: Final = 15
"""The first with CastLike, by which one body serves all element types."""
_FLOAT_ATTRIBUTES = (onnx.AttributeProto.FLOAT, onnx.AttributeProto.FLOATS)


def function_body(op: Op, nodes: Iterable[ir.Node], *, opset: int) -> onnx.FunctionProto:
    """The body of `op` that serves all of `nodes`, in the operators of ONNX `opset`.

    Below `CAST_LIKE_OPSET` it is for the element type of the nodes, and below `CONSTANT_OPSET` their constants are
    written into it.

    Raises:
        InputError: the opset has no operator for what the nodes need.
    """
    nodes = list(nodes)
    function = _written(op, _Needs.of(op, nodes, opset, typed=opset < CAST_LIKE_OPSET))
    if opset < CONSTANT_OPSET:
        _write_constants(function, op, nodes, opset)
    return function


def node_body(op: Op, node: ir.Node, *, opset: int) -> onnx.FunctionProto:
    """The same for one node and the element types that it has, with constants as the tensors that every runtime takes.

    Raises:
        InputError: the opset has no operator for what the node needs.
    """
    function = _written(op, _Needs.of(op, [node], opset, typed=True))
    _write_constants(function, op, [node], opset)
    return function


def _written(op: Op, needs: _Needs) -> onnx.FunctionProto:
    lines = "\n".join(f"  {line}" for line in _body(op, needs))
    inputs, outputs = (", ".join(name for name, _ in names) for names in (op.inputs, op.outputs))
    attributes = ", ".join(attribute.name for attribute in op.attributes)
    text = (
        f'<domain: "{DOMAIN}", opset_import: ["" : {needs.opset}]>\n'
        f"{op.name} <{attributes}> ({inputs}) => ({outputs}) {{\n{lines}\n}}"
    )
    function = onnx.parser.parse_function(text)
    function.doc_string = op.meaning
    for node in function.node:
        node.name = node.output[0]  # some converters cannot do without
    return function


def _write_constants(function: onnx.FunctionProto, op: Op, nodes: list[ir.Node], opset: int) -> None:
    """Give each Constant of the body its value as a tensor, the one form that there is below `CONSTANT_OPSET`."""
    references = [name for node in nodes for name in node.attributes if _is_reference(node, name)]
    if references:
        raise InputError(
            f"{op.name}: {references[0]} is an attribute of the function around it, and has no value there; inline the "
            "functions of the model first"
        )
    for node in function.node:
        if node.op_type != "Constant":
            continue
        (given,) = node.attribute
        value: Any = None if given.ref_attr_name else onnx.helper.get_attribute_value(given)
        if given.ref_attr_name:
            values = {_attribute(op, user, given.ref_attr_name) for user in nodes}
            if len(values) > 1:
                raise InputError(
                    f"{op.name}: norms with different {given.ref_attr_name} in one model of opset {opset}: a function "
                    f"needs opset >= {CONSTANT_OPSET} for it; convert the model, or fuse it without functions"
                )
            value = values.pop()
        array = np.asarray(value, np.float32 if given.type in _FLOAT_ATTRIBUTES else np.int64)
        node.attribute[0].CopyFrom(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(array)))


@dataclass(frozen=True)
class _Needs:
    """What the nodes of one op have in common, and so what their shared body must express."""

    opset: int
    x_type: int | None  # None: any
    scale_casts: bool  # some scale may not have the type that the multiplication is done in
    round_before_scale: bool | None  # None: as `scale_type` of each node says
    rms_epsilon: bool
    rms_min: bool
    several_axes: bool
    misread: bool  # by ONNX Runtime's fusion

    @classmethod
    def of(cls, op: Op, nodes: list[ir.Node], opset: int, *, typed: bool) -> _Needs:
        x_types = {_element_type(node.inputs[0]) for node in nodes}
        x_type = x_types.pop() if typed and len(x_types) == 1 else None
        orders = {_attribute(op, node, "scale_type") != _FLOAT32 for node in nodes}
        if x_type is None and opset < CAST_LIKE_OPSET:
            raise InputError(
                f"{op.name}: opset {opset} cannot express norms of several element types in one model; use opset >= "
                f"{CAST_LIKE_OPSET}"
            )
        several_axes = any(len(axes_of(node)) > 1 or _is_reference(node, "axes") for node in nodes)
        if op.is_partial and several_axes and opset < 18:
            raise InputError(f"{op.name}: over several axes needs opset >= 18, the model has {opset}")
        return cls(
            opset=opset,
            x_type=x_type,
            scale_casts=not typed or any(_element_type(n.inputs[-1]) != _attribute(op, n, "scale_type") for n in nodes),
            round_before_scale=orders.pop() if typed and len(orders) == 1 else None,
            rms_epsilon=any(_attribute(op, node, "rms_epsilon") != 0 for node in nodes),
            rms_min=any(_attribute(op, node, "rms_min") != 0 for node in nodes),
            several_axes=several_axes,
            misread=not op.is_partial and any(map(is_misread, nodes)),
        )


def _element_type(value: ir.Value | None) -> int | None:
    return None if value is None or value.dtype is None else int(value.dtype)


def _is_reference(node: ir.Node, name: str) -> bool:
    """Whether an attribute is one of the function around the node, which each call may set."""
    attribute = node.attributes.get(name)
    return attribute is not None and attribute.is_ref()


def _attribute(op: Op, node: ir.Node, name: str) -> Any:
    attribute = node.attributes.get(name)
    return op.defaults()[name] if attribute is None else attribute.value


def _body(op: Op, needs: _Needs) -> Iterator[str]:
    x = "X"
    if op.is_add:
        yield "Sum = Add (X, R)"
        x = "Sum"
    wide = x
    if needs.x_type != _FLOAT32:
        yield f"X32 = Cast <to = {_FLOAT32}> ({x})"
        wide = "X32"
    if op.is_gated:
        yield from _gate(op, needs)
    if op.gates_first:
        yield f"Gated = Mul ({wide}, Gate)"
        wide = "Gated"
    yield from _mean_square(op, needs, wide)
    yield "Epsilon = Constant <value_float: float = @epsilon> ()"
    yield "Biased = Add (MeanSquare, Epsilon)"
    yield "Root0 = Sqrt (Biased)"
    root = "Root0"
    if needs.rms_epsilon:
        yield "RmsEpsilon = Constant <value_float: float = @rms_epsilon> ()"
        yield f"Root1 = Add ({root}, RmsEpsilon)"
        root = "Root1"
    if needs.rms_min:
        yield "RmsMin = Constant <value_float: float = @rms_min> ()"
        yield f"Root2 = Max ({root}, RmsMin)"
        root = "Root2"
    if op.is_reciprocal:
        yield f"Inverse = Reciprocal ({root})"
        yield from _multiplied(needs, x)
        return
    yield f"Normed = Div ({wide}, {root})"
    yield from _scaled(op, needs, x)


def _gate(op: Op, needs: _Needs) -> Iterator[str]:
    """Gate: float32, of the shape of X."""
    z = "Z"
    if needs.x_type != _FLOAT32:
        yield f"Z32 = Cast <to = {_FLOAT32}> (Z)"
        z = "Z32"
    if op.gate == "SigmoidGate":
        yield f"Gate = Sigmoid ({z})"
        return
    yield f"Sigma = Sigmoid ({z})"
    yield f"Gate = Mul ({z}, Sigma)"


def _mean_square(op: Op, needs: _Needs, wide: str) -> Iterator[str]:
    """MeanSquare: float32, broadcasts against X."""
    if not needs.misread:
        yield "Two = Constant <value_float = 2.0> ()"
    if op.is_partial:
        yield from _partial_mean_square(needs, wide)
        return
    yield f"Square = Mul ({wide}, {wide})" if needs.misread else f"Square = Pow ({wide}, Two)"
    if needs.opset >= 18:
        yield "Axes = Constant <value_ints: ints = @axes> ()"
        yield "MeanSquare = ReduceMean <keepdims = 1> (Square, Axes)"
    else:
        yield "MeanSquare = ReduceMean <keepdims = 1, axes: ints = @axes> (Square)"


def _partial_mean_square(needs: _Needs, wide: str) -> Iterator[str]:
    """The mean over the first `partial_size` elements of the block, in row-major order."""
    yield "Axes = Constant <value_ints: ints = @axes> ()"
    yield "Size = Constant <value_int: int = @partial_size> ()"
    yield "One = Constant <value_ints = [1]> ()"
    yield "Zero = Constant <value_ints = [0]> ()"
    yield "Stop = Reshape (Size, One)"
    if not needs.several_axes:
        yield f"First = Slice ({wide}, Zero, Stop, Axes)"
        yield "Square = Pow (First, Two)"
        if needs.opset >= 18:
            yield "MeanSquare = ReduceMean <keepdims = 1> (Square, Axes)"
        else:
            yield "MeanSquare = ReduceMean <keepdims = 1, axes: ints = @axes> (Square)"
        return
    # The block becomes one axis: [lead..., n, tail...]; the result gets ones for the block again.
    yield f"FullShape = Shape ({wide})"
    yield "Rank = Shape (FullShape)"
    yield "FromStart = Add (Axes, Rank)"
    yield "Positive = Mod (FromStart, Rank)"
    yield "Begin = ReduceMin <keepdims = 1> (Positive, Zero)"
    yield "Last = ReduceMax <keepdims = 1> (Positive, Zero)"
    yield "End = Add (Last, One)"
    yield "Lead = Slice (FullShape, Zero, Begin, Zero)"
    yield "Tail = Slice (FullShape, End, Rank, Zero)"
    yield "Block = Slice (FullShape, Begin, End, Zero)"
    yield "N = ReduceProd <keepdims = 1> (Block, Zero)"
    yield "FlatShape = Concat <axis = 0> (Lead, N, Tail)"
    yield f"Flat = Reshape <allowzero = 1> ({wide}, FlatShape)"
    yield "First = Slice (Flat, Zero, Stop, Begin)"
    yield "Square = Pow (First, Two)"
    yield "FlatMean = ReduceMean <keepdims = 1> (Square, Begin)"
    yield "BlockRank = Shape (Block)"
    yield "Ones = Expand (One, BlockRank)"
    yield "MeanShape = Concat <axis = 0> (Lead, Ones, Tail)"
    yield "MeanSquare = Reshape <allowzero = 1> (FlatMean, MeanShape)"


def _to_scale_type(needs: _Needs) -> str:
    """The attribute of a Cast to `scale_type`."""
    if needs.round_before_scale is False:
        return f"<to = {_FLOAT32}>"
    if needs.round_before_scale and needs.x_type is not None:
        return f"<to = {needs.x_type}>"
    return "<to: int = @scale_type>"


def _multiplied(needs: _Needs, x: str) -> Iterator[str]:
    """Y, of the type of X: (X * Inverse) * scale, each cast to `scale_type` before, and each product in that type."""
    if needs.x_type == _FLOAT32:
        yield f"Normed = Mul ({x}, Inverse)"
        yield "Y = Mul (Normed, scale)"
        return
    to_scale_type = _to_scale_type(needs)
    yield f"Rounded = Cast {to_scale_type} (Inverse)"
    source = x
    if not (needs.round_before_scale and needs.x_type is not None):
        yield f"XCast = Cast {to_scale_type} ({x})"
        source = "XCast"
    yield f"Normed = Mul ({source}, Rounded)"
    yield from _end(needs, "Normed", x)


def _scaled(op: Op, needs: _Needs, x: str) -> Iterator[str]:
    """Y, of the type of X: scaled in float32 and rounded once, or rounded and then scaled."""
    if needs.x_type == _FLOAT32:
        if op.epilogue:
            yield "Scaled = Mul (Normed, scale)"
            yield "Y = Mul (Scaled, Gate)"
        else:
            yield "Y = Mul (Normed, scale)"
        return
    to_scale_type = _to_scale_type(needs)
    normed = "Normed"
    if needs.round_before_scale is not False:
        yield f"Rounded = Cast {to_scale_type} (Normed)"
        normed = "Rounded"
    yield from _end(needs, normed, x, has_gate=bool(op.epilogue))


def _end(needs: _Needs, normed: str, x: str, *, has_gate: bool = False) -> Iterator[str]:
    """Y = `normed` * scale, multiplied in `scale_type`, which `normed` has; with a gate, that in float32 after it."""
    to_scale_type, scale = _to_scale_type(needs), "scale"
    if needs.scale_casts:
        yield f"ScaleCast = Cast {to_scale_type} (scale)"
        scale = "ScaleCast"
    if needs.round_before_scale and not has_gate:
        yield f"Y = Mul ({normed}, {scale})"
        return
    yield f"Scaled = Mul ({normed}, {scale})"
    scaled = "Scaled"
    if has_gate:
        if needs.round_before_scale is not False:
            yield f"Wide = Cast <to = {_FLOAT32}> (Scaled)"
            scaled = "Wide"
        yield f"Product = Mul ({scaled}, Gate)"
        scaled = "Product"
    yield f"Y = Cast <to = {needs.x_type}> ({scaled})" if needs.x_type is not None else f"Y = CastLike ({scaled}, {x})"
