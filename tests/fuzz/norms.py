"""Spellings of RMSNorm, native and our own ops, and what only looks like a norm."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser

from .writer import Scope

__all__ = ["OUR_BODY", "near_norm", "norm", "one_op"]

_SPOILED = ("cubed", "no root", "maximum", "centred", "other axes", "wrong count", "other numerator", "epsilon per row")

OUR_BODY = """<domain: "rms_deploy", opset_import: ["" : OPSET]>
RMSNorm <axes, epsilon, rms_epsilon, rms_min, scale_type>(X, scale) => (Y) {
   Two = Constant <value_float: float = 2> ()
   Square = Pow (X, Two)
   Axes = Constant <value_ints: ints = @axes> ()
   MeanSquare = ReduceMean <keepdims: int = 1> (Square, Axes)
   Epsilon = Constant <value_float: float = @epsilon> ()
   Biased = Add (MeanSquare, Epsilon)
   Root = Sqrt (Biased)
   Normed = Div (X, Root)
   Y = Mul (Normed, scale)
}"""


def norm(scope: Scope, x: str) -> str:
    """RMSNorm as primitives, each piece in a random spelling."""
    return _spelled(scope, x, "")


def near_norm(scope: Scope, x: str) -> str:
    """Spelled as wildly, but wrong in one place; or LayerNormalization."""
    if scope.style.opset >= 17 and scope.style.chance(0.15):
        return scope.op("LayerNormalization", x, scope.constant(scope.random([scope.last])), epsilon=1e-5)
    return _spelled(scope, x, scope.style.pick(*_SPOILED))


def _spelled(scope: Scope, x: str, spoiled: str) -> str:
    style = scope.style
    half = style.dtype in ("float16", "bfloat16")
    dtype: Any = np.dtype(np.float32) if half and style.chance(0.85) else style.numpy
    wide = x if dtype == style.numpy else scope.cast(x, dtype)
    axes = _axes(scope, spoiled)
    numerator = scope.op("Tanh", wide) if spoiled == "other numerator" else wide
    if spoiled == "centred":
        wide = scope.op("Sub", wide, scope.reduce("ReduceMean", wide, axes))
    mean = _mean_square(scope, wide, axes, dtype, spoiled)
    epsilon = scope.number(style.pick(1e-5, 1e-6, 3e-4, 0.25), dtype)
    if spoiled == "epsilon per row":
        epsilon = scope.op("Abs", scope.reduce("ReduceMax", wide, axes))
    normed = _divided(scope, numerator, mean, epsilon, dtype, spoiled)
    scale_first = dtype != style.numpy and style.chance(0.4)
    if not scale_first:
        normed = _scaled(scope, normed, axes, dtype)
    if dtype != style.numpy:
        normed = scope.cast(normed, style.numpy)
    return _scaled(scope, normed, axes, style.numpy) if scale_first else normed


def _axes(scope: Scope, spoiled: str) -> tuple[int, ...]:
    if spoiled == "other axes":
        return (-scope.rank,)
    return (-2, -1) if scope.rank > 2 and spoiled != "wrong count" and scope.style.chance(0.1) else (-1,)


def _mean_square(scope: Scope, wide: str, axes: tuple[int, ...], dtype: Any, spoiled: str) -> str:
    style = scope.style
    exponent = 3 if spoiled == "cubed" else 2
    if spoiled == "cubed":
        wide = scope.op("Abs", wide)
    if exponent == 2 and style.chance(0.5):
        square = scope.op("Mul", wide, wide)
    else:
        mixed = np.int64 if style.opset >= 12 and style.chance(0.2) else dtype
        square = scope.op("Pow", wide, scope.constant(np.array(exponent, mixed)))
    if spoiled == "maximum":
        return scope.reduce("ReduceMax", square, axes)
    static = axes == (-1,) and scope.last > 0
    if spoiled == "wrong count" or (static and style.chance(0.2)):
        count = max(scope.last, 1) + (spoiled == "wrong count")
        total = scope.reduce("ReduceSum", square, axes)
        if style.opset >= 9 and style.chance(0.3):
            return scope.op("Div", total, _counted(scope, wide, dtype, wrong=spoiled == "wrong count"))
        if style.chance(0.5):
            return scope.op("Div", total, scope.number(count, dtype))
        return scope.either_way("Mul", total, scope.number(1 / count, dtype))
    if style.chance(0.2):
        return scope.unsqueeze(scope.reduce("ReduceMean", square, axes, keep=False), axes)
    return scope.reduce("ReduceMean", square, axes)


def _counted(scope: Scope, wide: str, dtype: Any, *, wrong: bool) -> str:
    """The size of the last axis as the graph itself finds it; or that of another, whose name may be the same."""
    place = scope.constant(np.array([max(scope.rank - 1 - wrong, 0)], np.int64))
    return scope.cast(scope.op("Gather", scope.op("Shape", wide), place), dtype)


def _divided(scope: Scope, numerator: str, mean: str, epsilon: str, dtype: Any, spoiled: str) -> str:
    style = scope.style
    place = style.pick("inside", "inside", "inside", "outside", "floor")
    value = scope.either_way("Add", mean, epsilon) if place == "inside" else mean
    if place == "inside" and style.chance(0.2) and spoiled != "no root":
        inverse = scope.op("Pow", value, scope.number(-0.5, dtype))
        return scope.either_way("Mul", numerator, inverse)
    root = value if spoiled == "no root" else scope.op("Sqrt", value)
    if place == "outside":
        root = scope.either_way("Add", root, epsilon)
    if place == "floor":  # Max of one type broadcasts since opset 8
        root = scope.either_way("Max" if style.opset >= 8 else "Add", root, epsilon)
    way = style.pick("Div", "Reciprocal", "Div one")
    if way == "Div":
        return scope.op("Div", numerator, root)
    inverse = scope.op("Reciprocal", root) if way == "Reciprocal" else scope.op("Div", scope.number(1, dtype), root)
    return scope.either_way("Mul", numerator, inverse)


def _scaled(scope: Scope, value: str, axes: tuple[int, ...], dtype: Any) -> str:
    style = scope.style
    kind = style.pick("vector", "vector", "scalar", "one plus", "leading ones", "none", "cast")
    if kind == "none":
        return value
    if kind == "scalar" or axes[0] == -scope.rank:
        return scope.either_way("Mul", value, scope.number(1.75, dtype))
    shape = [1] * (scope.rank - 1) + [scope.last] if kind == "leading ones" else [scope.last]
    stored = style.numpy if kind == "cast" else dtype
    weight = scope.constant(scope.random(shape, stored))
    if stored != dtype:
        weight = scope.cast(weight, dtype)
    if kind == "one plus":
        weight = scope.either_way("Add", weight, scope.number(1, dtype, rank=0))
    return scope.either_way("Mul", value, weight)


def one_op(scope: Scope, x: str, residual: str) -> str:
    """A norm that is one node: of ONNX, of ONNX Runtime, or ours with or without its body."""
    style = scope.style
    kinds = ["ours"] if style.opset >= 13 and style.dtype != "float64" else []
    kinds += ["RMSNormalization"] * (style.opset >= 23)
    if style.dtype == "float32":
        kinds.append("Skip")
        if not scope.in_function:  # ONNX Runtime 1.32 dies on one in the default domain of a function
            kinds.append("SimplifiedLayerNormalization")
    if not kinds:
        return norm(scope, x)
    kind = style.pick(*kinds)
    scale = scope.constant(scope.random([scope.last]))
    if kind == "ours":
        if style.opset >= 18 and "RMSNorm" not in style.functions and style.dtype == "float32" and style.chance(0.6):
            style.functions["RMSNorm"] = onnx.parser.parse_function(OUR_BODY.replace("OPSET", str(style.opset)))
        given = {"axes": [-1], "epsilon": 1e-5, "rms_epsilon": 0.0, "rms_min": 0.0, "scale_type": 1}
        return scope.op("RMSNorm", x, scale, domain="rms_deploy", **given)
    if kind == "Skip":
        if scope.rank != 3:
            return norm(scope, x)
        outputs = style.pick(1, 4)
        return scope.op("SkipSimplifiedLayerNormalization", x, residual, scale, domain="com.microsoft",
                        outputs=outputs, epsilon=1e-5)  # fmt: skip
    return scope.op(kind, x, scale, axis=-1, **style.pick({}, {"epsilon": 1e-6}))
