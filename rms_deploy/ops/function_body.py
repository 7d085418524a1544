"""The body of each op as an ONNX function, so that a model runs where our library is not.

The body is spelled Pow, ReduceMean, Add, Sqrt, Div, Mul: the form that ONNX Runtime's and TensorRT's optimisers know.
It is driven by the attributes of the op, with no `rms_epsilon` or `rms_min` arithmetic where all nodes have the
default. Where ONNX Runtime would fuse it wrongly, it squares by Mul, which no optimiser takes for a part of a norm.

`function_body` does not depend on element types, as other tools convert a model and leave its functions as they are:
X is cast to float32, and Y to whatever X is. The text is one for all opsets from 18 on. `node_body` is for one node,
whose element types stay what they are, and has the casts only that the node needs.

The body of an op that quantises is our op without that, and QuantizeLinear: so the norm is one kernel where our library
is.
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
from rms_deploy.ops.contract import DOMAIN, ELEMENT_TYPES, VERSION, Op
from rms_deploy.ops.element_types import quantized_dtype
from rms_deploy.ops.misread_scale import is_misread
from rms_deploy.ops.nodes import axes_of
from rms_deploy.ops.quantization import require_quantization_opset

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
    for node in nodes if op.is_quantized else ():
        if not _is_reference(node, "output_dtype"):
            precision = 1 if _is_reference(node, "precision") else _attribute(op, node, "precision")
            dtype = quantized_dtype(_attribute(op, node, "output_dtype"))
            require_quantization_opset(op, dtype, opset, precision=precision)
    function = _written(op, _Needs.of(op, nodes, opset, typed=opset < CAST_LIKE_OPSET))
    if opset < CONSTANT_OPSET:
        _write_constants(function, op, nodes, opset)
    return function


def node_body(op: Op, node: ir.Node, *, opset: int) -> onnx.FunctionProto:
    """The same for one node and the element types that it has, with constants as the tensors that every runtime takes.

    Of an op that does not quantise.

    Raises:
        InputError: the opset has no operator for what the node needs.
    """
    function = _written(op, _Needs.of(op, [node], opset, typed=True))
    _write_constants(function, op, [node], opset)
    return function


def _written(op: Op, needs: _Needs) -> onnx.FunctionProto:
    lines = "\n".join(f"  {line}" for line in (_quantized(op) if op.is_quantized else _body(op, needs)))
    inputs, outputs = (", ".join(name for name, _ in names) for names in (op.inputs, op.outputs))
    attributes = ", ".join(attribute.name for attribute in op.attributes)
    imports = f'"" : {needs.opset}' + (f', "{DOMAIN}" : {VERSION}' if op.is_quantized else "")
    text = (
        f'<domain: "{DOMAIN}", opset_import: [{imports}]>\n'
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
    sum_type: int | None  # of R and Sum; None: any
    mixed_sum: bool  # R and Sum may have another type than X
    scale_casts: bool  # some scale or shift may not have the type that it is applied in
    round_before_scale: bool | None  # None: as `scale_type` of each node says
    rms_epsilon: bool
    rms_min: bool
    several_axes: bool
    misread: bool  # by ONNX Runtime's fusion

    @classmethod
    def of(cls, op: Op, nodes: list[ir.Node], opset: int, *, typed: bool) -> _Needs:
        x_types = {_element_type(node.inputs[0]) for node in nodes}
        x_type = x_types.pop() if typed and len(x_types) == 1 else None
        sum_types = {_element_type(node.inputs[1]) for node in nodes}
        orders = {_attribute(op, node, "scale_type") != _FLOAT32 for node in nodes}
        if opset < CAST_LIKE_OPSET and (x_type is None or (op.is_add and len(sum_types) > 1)):
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
            sum_type=sum_types.pop() if typed and len(sum_types) == 1 else None,
            mixed_sum=op.is_add and any(_has_other_sum(node) for node in nodes),
            scale_casts=not typed
            or any(
                _element_type(v) != _attribute(op, n, "scale_type") for n in nodes for v in n.inputs[op.scale_index :]
            ),
            round_before_scale=orders.pop() if typed and len(orders) == 1 else None,
            rms_epsilon=any(_attribute(op, node, "rms_epsilon") != 0 for node in nodes),
            rms_min=any(_attribute(op, node, "rms_min") != 0 for node in nodes),
            several_axes=several_axes,
            misread=not op.is_partial and any(map(is_misread, nodes)),
        )


def _element_type(value: ir.Value | None) -> int | None:
    return None if value is None or value.dtype is None else int(value.dtype)


def _has_other_sum(node: ir.Node) -> bool:
    x, residual = (_element_type(value) for value in node.inputs[:2])
    return residual is not None and residual != x


def _is_reference(node: ir.Node, name: str) -> bool:
    """Whether an attribute is one of the function around the node, which each call may set."""
    attribute = node.attributes.get(name)
    return attribute is not None and attribute.is_ref()


def _attribute(op: Op, node: ir.Node, name: str) -> Any:
    attribute = node.attributes.get(name)
    return op.defaults()[name] if attribute is None else attribute.value


def _quantized(op: Op) -> Iterator[str]:
    """Our op without quantisation, and QuantizeLinear in the type that `precision` names."""
    norm = op.without_quantization
    inputs, outputs = (", ".join(name for name, _ in names) for names in (norm.inputs, norm.outputs[1:]))
    attributes = ", ".join(f"{a.name}: {a.kind} = @{a.name}" for a in norm.attributes)
    yield f"{', '.join(filter(None, ('Normed', outputs)))} = {DOMAIN}.{norm.name} <{attributes}> ({inputs})"
    yield "Divided = Cast <to: int = @precision> (Normed)"
    yield "YScale32 = Constant <value_float: float = @y_scale> ()"
    yield "YScale = Cast <to: int = @precision> (YScale32)"
    yield "Zero = Constant <value_float = 0.0> ()"
    yield "ZeroPoint = Cast <to: int = @output_dtype> (Zero)"
    yield "Y = QuantizeLinear (Divided, YScale, ZeroPoint)"


def _body(op: Op, needs: _Needs) -> Iterator[str]:
    wide = x = "X"
    if op.prologue == "AddFloat32":
        yield from _float32_sum(needs)
        wide = "Sum32"
    else:
        if op.is_add:
            yield from _sum(needs)
            wide = x = "RoundedSum" if needs.mixed_sum else "Sum"
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


def _sum(needs: _Needs) -> Iterator[str]:
    """Sum = X + R, of the type of R; and RoundedSum, of the type of X, where the two may differ."""
    if not needs.mixed_sum:
        yield "Sum = Add (X, R)"
        return
    yield "XLikeR = CastLike (X, R)" if needs.sum_type is None else f"XLikeR = Cast <to = {needs.sum_type}> (X)"
    yield "Sum = Add (XLikeR, R)"
    yield "RoundedSum = CastLike (Sum, X)" if needs.x_type is None else f"RoundedSum = Cast <to = {needs.x_type}> (Sum)"


def _float32_sum(needs: _Needs) -> Iterator[str]:
    """Sum32 = X + R, in float32; and Sum, of the type of R."""
    x, r = "X", "R"
    if needs.x_type != _FLOAT32:
        yield f"X32 = Cast <to = {_FLOAT32}> (X)"
        x = "X32"
    if needs.sum_type != _FLOAT32:
        yield f"R32 = Cast <to = {_FLOAT32}> (R)"
        r = "R32"
    yield f"Sum32 = Add ({x}, {r})"
    yield "Sum = CastLike (Sum32, R)" if needs.sum_type is None else f"Sum = Cast <to = {needs.sum_type}> (Sum32)"


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
    normed = "Normed"
    if needs.x_type != _FLOAT32 and needs.round_before_scale is not False:
        yield f"Rounded = Cast {_to_scale_type(needs)} (Normed)"
        normed = "Rounded"
    yield from _end(needs, normed, x, op.epilogue)


def _end(needs: _Needs, normed: str, x: str, epilogue: str = "") -> Iterator[str]:
    """Y = `normed` * scale, multiplied in `scale_type`, which `normed` has; then what the epilogue does.

    A shift is added in `scale_type`, and the product with a gate is taken in float32.
    """
    is_float32 = needs.x_type == _FLOAT32
    is_done = is_float32 or needs.round_before_scale  # `normed` has the type of X
    scale, shift = "scale", "shift"
    if needs.scale_casts and not is_float32:
        yield f"ScaleCast = Cast {_to_scale_type(needs)} (scale)"
        scale = "ScaleCast"
        if epilogue == "Shift":
            yield f"ShiftCast = Cast {_to_scale_type(needs)} (shift)"
            shift = "ShiftCast"
    if not epilogue:
        yield f"{'Y' if is_done else 'Scaled'} = Mul ({normed}, {scale})"
        end = "Scaled"
    elif epilogue == "Shift":
        yield f"Scaled = Mul ({normed}, {scale})"
        yield f"{'Y' if is_done else 'Shifted'} = Add (Scaled, {shift})"
        end = "Shifted"
    else:
        yield f"Scaled = Mul ({normed}, {scale})"
        scaled = "Scaled"
        if not is_float32 and needs.round_before_scale is not False:
            yield f"Wide = Cast <to = {_FLOAT32}> (Scaled)"
            scaled = "Wide"
        yield f"{'Y' if is_float32 else 'Product'} = Mul ({scaled}, Gate)"
        end, is_done = "Product", is_float32
    if not is_done:
        yield f"Y = Cast <to = {needs.x_type}> ({end})" if needs.x_type is not None else f"Y = CastLike ({end}, {x})"
