"""Spellings that few tools write: what is left out, neutral operators, other layouts, means that are no reductions."""

from __future__ import annotations

from typing import Any

import numpy as np

from .case import Case, norm

__all__ = ["RARE"]

_INFINITE = {"top": np.float32(np.inf)}
_LARGEST = {"top": np.finfo(np.float32).max}

_LEFT_OUT: dict[str, str] = {
    "floor of the mean, no upper bound": norm(root="d = Clip (m, floor, _) r = Sqrt (d)"),
    "floor of the root, no upper bound": norm(root="k = Sqrt (m) r = Clip (k, floor, _)"),
    "F.normalize": "l = ReduceL2 (x, last) c = Clip (l, tiny, _) d = Div (x, c) n = Mul (d, root8) y = Mul (n, w)",
    "Clip without bounds": norm(root="d = Clip (m, _, _) e = Add (d, eps) r = Sqrt (e)"),
    "Clip without bounds, one name": norm(root="d = Clip (m, _) e = Add (d, eps) r = Sqrt (e)"),
    "outputs of a Dropout": f"d, _ = Dropout (x) {norm(square='q = Mul (d, d)', inverse='n = Div (d, r)')}",
}

_NEUTRAL: dict[str, tuple[str, dict[str, Any]]] = {
    "Clip to infinity": (norm(root="d = Clip (m, floor, top) r = Sqrt (d)"), _INFINITE),
    "Clip to the largest number": (norm(root="k = Sqrt (m) r = Clip (k, floor, top)"), _LARGEST),
    "Clip from above alone": (norm(root="d = Clip (m, _, top) e = Add (d, eps) r = Sqrt (e)"), _INFINITE),
    "Min of infinity": (norm(root="d = Min (m, top) e = Add (d, eps) r = Sqrt (e)"), _INFINITE),
    "Min of the largest number, left": (norm(root="d = Min (top, m) e = Add (d, eps) r = Sqrt (e)"), _LARGEST),
    "Relu of the mean square": (norm(root="d = Relu (m) e = Add (d, eps) r = Sqrt (e)"), {}),
    "Relu of the root": (norm(root="e = Add (m, eps) k = Sqrt (e) r = Relu (k)"), {}),
    "Abs of the mean square": (norm(root="d = Abs (m) e = Add (d, eps) r = Sqrt (e)"), {}),
    "Max with 0": (norm(root="d = Max (m, zero) e = Add (d, eps) r = Sqrt (e)"), {}),
    "Max with a negative number": (norm(root="d = Max (m, minus_one) e = Add (d, eps) r = Sqrt (e)"), {}),
    "Max of one": (norm(root="d = Max (m) e = Add (d, eps) r = Sqrt (e)"), {}),
    "Max with 0 under a floor": (norm(root="d = Max (m, zero) k = Max (d, floor) r = Sqrt (k)"), {}),
    "times 1": (norm(root="d = Mul (m, one) e = Add (d, eps) r = Sqrt (e)"), {}),
    "divided by 1": (norm(root="d = Div (m, one) e = Add (d, eps) k = Sqrt (e) r = Div (k, one)"), {}),
    "1 times x / rms": (norm(scale="k = Mul (one, n) y = Mul (k, w)"), {}),
    "x / rms / 1": (norm(scale="k = Div (n, one) y = Mul (k, w)"), {}),
    "to the power of 1": (norm(root="d = Pow (m, one) e = Add (d, eps) r = Sqrt (e)"), {}),
    "plus 0 and plus epsilon": (norm(root="d = Add (m, zero) e = Add (d, eps) r = Sqrt (e)"), {}),
    "minus a negative epsilon": (norm(root="e = Sub (m, k) r = Sqrt (e)"), {"k": np.float32(-0.25)}),
    "minus 0": (norm(root="d = Sub (m, zero) e = Add (d, eps) r = Sqrt (e)"), {}),
    "root minus a negative number": (norm(root="k = Sqrt (m) r = Sub (k, c)"), {"c": np.float32(-0.25)}),
    "Sum of two": (norm(root="e = Sum (m, eps) r = Sqrt (e)"), {}),
    "Sum of two, left": (norm(root="e = Sum (eps, m) r = Sqrt (e)"), {}),
    "Squeeze and Unsqueeze": (
        norm(root="d = Squeeze (m, last) k = Unsqueeze (d, last) e = Add (k, eps) r = Sqrt (e)"), {}
    ),
    "Unsqueeze and Squeeze": (
        norm(root="d = Unsqueeze (m, last) k = Squeeze (d, last) e = Add (k, eps) r = Sqrt (e)"), {}
    ),
    "Squeeze, Sqrt, Reshape": (
        norm(root="d = Squeeze (m, last) e = Add (d, eps) k = Sqrt (e) r = Reshape (k, z)"),
        {"z": np.int64([0, 0, 1])},
    ),
    "Flatten and Reshape": (
        norm(root="d = Flatten <axis=2> (m) e = Add (d, eps) k = Sqrt (e) h = Shape (m) r = Reshape (k, h)"),
        {},
    ),
}  # fmt: skip

_OLD_CLIP = {
    "attribute": "d = Clip <min=0.25> (m) r = Sqrt (d)",
    "attributes, the upper one the largest number": "d = Clip <min=0.25, max=3.4028234663852886e38> (m) r = Sqrt (d)",
}

_RECTANGLE = {"inputs": "float[b,2,4] x", "outputs": "float[b,2,4] y"}
_TWO_AXES = {"a1": np.int64([1]), "c": np.float32(np.linspace(-1, 2, 8)).reshape(2, 4), "quarter": np.float32(0.25)}
_SCALED = "e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, c)"
_TWO_STEPS: dict[str, str] = {
    "means": "q = Mul (x, x) k = ReduceMean (q, last) m = ReduceMean (k, a1)",
    "means, the first axis first": "q = Mul (x, x) k = ReduceMean (q, a1) m = ReduceMean (k, last)",
    "sums": "q = Mul (x, x) k = ReduceSum (q, last) t = ReduceSum (k, a1) m = Div (t, eight)",
    "means without ones": (
        "q = Mul (x, x) k = ReduceMean <keepdims=0> (q, last) j = ReduceMean <keepdims=0> (k, a1) "
        "m = Unsqueeze (j, both)"
    ),
}
_MIXED = "q = Mul (x, x) k = ReduceSum (q, last) t = ReduceMean (k, a1) m = Mul (t, quarter)"

_ROWS = {
    "inputs": "float[2,5,8] x",
    "constants": {
        "s108": np.int64([10, 8]),
        "s101": np.int64([10, 1]),
        "s251": np.int64([2, 5, 1]),
        "s258": np.int64([2, 5, 8]),
    },
}
_NCHW = {"inputs": "float[b,8,h,k] x", "outputs": "float[b,8,h,k] y", "dims": {"h": 4, "k": 3}}
_CHANNELS = np.float32(np.linspace(-1, 2, 8)).reshape(8, 1, 1)
_LAYOUTS: list[tuple[str, str, dict[str, Any]]] = [
    ("statistics of a reshaped x", "t = Reshape (x, s108) q = Mul (t, t) m = ReduceMean (q, last) e = Add (m, eps) "
     "k = Sqrt (e) r = Reshape (k, s251) n = Div (x, r) y = Mul (n, w)", {**_ROWS, "outputs": "float[2,5,8] y"}),
    ("statistics of x, a reshaped x divided", "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) k = Sqrt (e) "
     "t = Reshape (x, s108) r = Reshape (k, s101) n = Div (t, r) y = Mul (n, w)",
     {**_ROWS, "outputs": "float[10,8] y"}),
    ("statistics of a flat x, without ones", "t = Reshape (x, s108) q = Mul (t, t) "
     "m = ReduceMean <keepdims=0> (q, last) e = Add (m, eps) k = Sqrt (e) i = Reciprocal (k) r = Reshape (i, s251) "
     "n = Mul (x, r) y = Mul (n, w)",
     {**_ROWS, "outputs": "float[2,5,8] y"}),
    ("scaled before it is divided by reshaped statistics", "t = Reshape (x, s108) q = Mul (t, t) "
     "m = ReduceMean (q, last) e = Add (m, eps) k = Sqrt (e) r = Reshape (k, s251) n = Mul (x, w) y = Div (n, r)",
     {**_ROWS, "outputs": "float[2,5,8] y"}),
    ("unsqueezed x divided by unsqueezed statistics", "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) "
     "k = Sqrt (e) t = Unsqueeze (x, one1) r = Unsqueeze (k, one1) n = Div (t, r) y = Mul (n, w)",
     {"constants": {"one1": np.int64([1])}, "outputs": "float[b,1,s,8] y"}),
    ("statistics of a transposed x", "t = Transpose <perm=[0,2,3,1]> (x) q = Mul (t, t) m = ReduceMean (q, last) "
     "e = Add (m, eps) k = Sqrt (e) r = Transpose <perm=[0,3,1,2]> (k) n = Div (x, r) y = Mul (n, c)",
     {**_NCHW, "constants": {"c": _CHANNELS}}),
    ("statistics of x, a transposed x divided", "q = Mul (x, x) m = ReduceMean (q, c1) e = Add (m, eps) k = Sqrt (e) "
     "t = Transpose <perm=[0,2,3,1]> (x) r = Transpose <perm=[0,2,3,1]> (k) n = Div (t, r) y = Mul (n, w)",
     {**_NCHW, "outputs": "float[b,h,k,8] y", "constants": {"c1": np.int64([1])}}),
]  # fmt: skip

_EQUAL: list[tuple[str, str, dict[str, Any]]] = [
    ("two equal Reshapes", "a = Reshape (x, z) a2 = Reshape (x, z) q = Mul (a, a) m = ReduceMean (q, last) "
     "e = Add (m, eps) r = Sqrt (e) n = Div (a2, r) k = Mul (n, v4) y = Reshape (k, back)",
     {"constants": {"z": np.int64([0, 0, 2, 4]), "back": np.int64([0, 0, 8]), "v4": np.float32([1, -2, 3, 0.5])}}),
    ("two equal Transposes", "a = Transpose <perm=[0,2,1]> (x) a2 = Transpose <perm=[0,2,1]> (x) q = Mul (a, a) "
     "m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) y = Div (a2, r)", {"outputs": "float[b,8,s] y"}),
    ("squares of two equal values", norm(square="a = Abs (x) a2 = Abs (x) q = Mul (a, a2)"), {}),
    ("three equal DequantizeLinears", "a = DequantizeLinear (g, f, z8) a2 = DequantizeLinear (g, f, z8) "
     "a3 = DequantizeLinear (g, f, z8) q = Mul (a, a2) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) "
     "n = Div (a3, r) y = Mul (n, w)",
     {"inputs": "uint8[b,s,8] g", "opset": 21, "constants": {"f": np.float32(0.05), "z8": np.uint8(128)}}),
    ("equal sums of equal constants", "a = Add (x, bias) a2 = Add (x, b2) q = Mul (a, a) m = ReduceMean (q, last) "
     "e = Add (m, eps) r = Sqrt (e) n = Div (a2, r) y = Mul (n, w)",
     {"constants": {"b2": np.float32([1.5, -0.7, 0.3, 2.1, -1.2, 0.9, 1.1, 0.4])[::-1] / 3}}),
]  # fmt: skip

_HEADS = {
    "inputs": "float[b,2,s,8] x",
    "outputs": "float[b,2,s,8] y",
    "constants": {"g": np.float32(np.linspace(-1, 2, 16)).reshape(2, 1, 8)},
    "zero_row": False,
}
_L2 = "l = ReduceL2 (x, last) d = Div (x, l)"
_ROOT_N: list[tuple[str, str, dict[str, Any]]] = [
    ("* w * sqrt n", f"{_L2} k = Mul (d, w) y = Mul (k, root8)", {}),
    ("* sqrt n * w", f"{_L2} k = Mul (root8, d) y = Mul (w, k)", {}),
    ("* (w * sqrt n)", f"{_L2} k = Mul (w, root8) y = Mul (d, k)", {}),
    ("* (sqrt n * w)", f"{_L2} k = Mul (root8, w) y = Mul (k, d)", {}),
    ("* w / n^-0.5", f"{_L2} k = Mul (d, w) y = Div (k, inverse_root8)", {}),
    ("x * w above", "l = ReduceL2 (x, last) k = Mul (x, w) d = Div (k, l) y = Mul (d, root8)", {}),
    ("x * w * sqrt n above", "l = ReduceL2 (x, last) k = Mul (x, w) j = Mul (k, root8) y = Div (j, l)", {}),
    ("w * sqrt n above, times x", "l = ReduceL2 (x, last) k = Mul (w, root8) j = Div (k, l) y = Mul (x, j)", {}),
    ("* a scale per head * sqrt n", f"{_L2} k = Mul (d, g) y = Mul (k, root8)", _HEADS),
    ("* sqrt n * a scale per head", f"{_L2} k = Mul (d, root8) y = Mul (g, k)", _HEADS),
    ("* (a scale per head * sqrt n)", f"{_L2} k = Mul (g, root8) y = Mul (k, d)", _HEADS),
    ("* w * a scale per head * sqrt n", f"{_L2} k = Mul (d, w) j = Mul (k, g) y = Mul (j, root8)", _HEADS),
    ("* (1 + w) * sqrt n", f"{_L2} j = Add (w, one) k = Mul (d, j) y = Mul (k, root8)", {}),
    ("* a scale that makes it grow * sqrt n", f"{_L2} k = Mul (d, c) y = Mul (k, root8)",
     {"constants": {"c": np.float32([1, 2]).reshape(2, 1, 1, 1)}, "outputs": "float[2,b,s,8] y"}),
    ("* a scale per row * sqrt n", f"{_L2} k = Mul (d, g) y = Mul (k, root8)",
     {"inputs": "float[b,s,8] x, float[b,1,8] g"}),
]  # fmt: skip
_WIDE: list[tuple[str, str, dict[str, Any]]] = [
    ("RMSNormalization with a scale per head", "y = RMSNormalization <axis=-1, epsilon=1e-5> (x, g)",
     {"inputs": "float[b,s,2,8] x", "outputs": "float[b,s,2,8] y",
      "constants": {"g": np.float32(np.linspace(-1, 2, 16)).reshape(2, 8)}}),
    ("RMSNormalization with a scale per head in front", "y = RMSNormalization <axis=-1, epsilon=1e-5> (x, g)",
     {**_HEADS, "zero_row": True}),
]  # fmt: skip

_EIGHTHS = np.full((8, 1), 0.125, np.float32)
_POOLED: list[tuple[str, str, dict[str, Any]]] = [
    ("AveragePool", norm(mean="m = AveragePool <kernel_shape=[8]> (q)"), {}),
    ("AveragePool of two axes", "q = Mul (x, x) m = AveragePool <kernel_shape=[2,4]> (q) e = Add (m, eps) r = Sqrt (e) "
     "n = Div (x, r) y = Mul (n, c)",
     {"inputs": "float[b,s,2,4] x", "outputs": "float[b,s,2,4] y", "constants": {"c": _TWO_AXES["c"]}}),
    ("MatMul with 1/n", norm(mean="m = MatMul (q, c)"), {"constants": {"c": _EIGHTHS}}),
    ("MatMul with ones, / n", norm(mean="t = MatMul (q, c) m = Div (t, eight)"), {"constants": {"c": 8 * _EIGHTHS}}),
    ("Conv of 1x1 with 1/n", "q = Mul (x, x) m = Conv <kernel_shape=[1,1]> (q, c) e = Add (m, eps) r = Sqrt (e) "
     "n = Div (x, r) y = Mul (n, d)",
     {**_NCHW, "constants": {"c": _EIGHTHS.reshape(1, 8, 1, 1), "d": _CHANNELS}}),
]  # fmt: skip

_WHERE: dict[str, str] = {
    "Less": "k = Sqrt (m) c = Less (k, floor) r = Where (c, floor, k)",
    "LessOrEqual": "k = Sqrt (m) c = LessOrEqual (k, floor) r = Where (c, floor, k)",
    "Greater": "k = Sqrt (m) c = Greater (k, floor) r = Where (c, k, floor)",
    "Less, the floor left": "k = Sqrt (m) c = Less (floor, k) r = Where (c, k, floor)",
    "of the mean square": "c = Less (m, floor) k = Where (c, floor, m) r = Sqrt (k)",
}

_DECOYS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("Clip to a smaller number than the largest", norm(root="d = Clip (m, floor, top) r = Sqrt (d)"), "from above",
     {"constants": {"top": np.float32(65504)}}),
    ("Min of one", norm(root="d = Min (m, one) e = Add (d, eps) r = Sqrt (e)"), "from above", {}),
    ("Relu of x", norm(square="a = Relu (x) q = Mul (a, a)"), "another tensor", {}),
    ("minus a positive number", norm(root="d = Sub (m, eps) a = Abs (d) r = Sqrt (a)"), "epsilon is -1e-06", {}),
    ("a number minus the mean square", norm(root="d = Sub (eps, m) a = Abs (d) r = Sqrt (a)"), "is subtracted", {}),
    ("Sum of three", norm(root="e = Sum (m, eps, floor) r = Sqrt (e)"), "is not a piece of a norm", {}),
    ("times 2", norm(root="d = Mul (m, two) e = Add (d, eps) r = Sqrt (e)"), "is not a piece of a norm", {}),
    ("a sum over one axis and a mean over the other", f"{_MIXED} {_SCALED}", "summed over some axes",
     {**_RECTANGLE, "constants": _TWO_AXES}),
    ("rows in another order", "t = Transpose <perm=[1,0,2]> (x) q = Mul (t, t) m = ReduceMean (q, last) "
     "e = Add (m, eps) k = Sqrt (e) r = Reshape (k, s551) n = Div (x, r) y = Mul (n, w)", "another tensor",
     {"inputs": "float[5,5,8] x", "outputs": "float[5,5,8] y", "constants": {"s551": np.int64([5, 5, 1])}}),
    ("statistics transposed once", "t = Transpose <perm=[0,2,3,1]> (x) q = Mul (t, t) m = ReduceMean (q, last) "
     "e = Add (m, eps) k = Sqrt (e) r = Transpose <perm=[0,3,2,1]> (k) n = Div (x, r) y = Identity (n)",
     "reshaped or transposed", {"inputs": "float[b,8,3,3] x", "outputs": "float[b,8,3,3] y"}),
    ("two Reshapes to two shapes", "a = Reshape (x, z) a2 = Reshape (x, z2) q = Mul (a, a) m = ReduceMean (q, last) "
     "e = Add (m, eps) r = Sqrt (e) n = Div (a2, r) y = Identity (n)", "another tensor",
     {"inputs": "float[4,4] x", "outputs": "float[2,2,2,4] y",
      "constants": {"z": np.int64([2, 1, 2, 4]), "z2": np.int64([1, 2, 2, 4])}}),
    ("two DequantizeLinears of two scales", "a = DequantizeLinear (g, f, z8) a2 = DequantizeLinear (g, f2, z8) "
     "q = Mul (a, a) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (a2, r) y = Mul (n, w)",
     "another tensor",
     {"inputs": "uint8[b,s,8] g", "opset": 21, "constants": {"f": np.float32(0.05), "f2": np.float32(0.06),
                                                                "z8": np.uint8(128)}}),
    ("* w * sqrt of another n", f"{_L2} k = Mul (d, w) y = Mul (k, c)", "an L2 norm",
     {"constants": {"c": np.float32(7**0.5)}, "zero_row": False}),
    ("AveragePool of windows", norm(mean="m = AveragePool <kernel_shape=[3], pads=[1,1]> (q)"), "windows", {}),
    ("MatMul with other weights", norm(mean="m = MatMul (q, c)"), "is not 1/n",
     {"constants": {"c": np.float32(np.linspace(0.1, 0.2, 8)).reshape(8, 1)}}),
    ("MatMul with weights of the caller", norm(mean="k = MatMul (q, g) m = Abs (k)"), "not known to be 1/n",
     {"inputs": "float[b,s,8] x, float[8,1] g"}),
    ("Conv of 1x1 with other weights", "q = Mul (x, x) m = Conv <kernel_shape=[1,1]> (q, c) e = Add (m, eps) "
     "r = Sqrt (e) n = Div (x, r) y = Identity (n)", "is not 1/n",
     {**_NCHW, "constants": {"c": _EIGHTHS.reshape(1, 8, 1, 1) * np.float32(1.5)}}),
    ("Where with another number", norm(root="k = Sqrt (m) c = Less (k, floor) r = Where (c, one, k)"),
     "where a condition holds", {}),
    ("Where that takes the smaller", norm(root="k = Sqrt (m) c = Less (k, floor) r = Where (c, k, floor)"),
     "where a condition holds", {}),
    ("Where of another condition", norm(root="k = Sqrt (m) c = Less (x, floor) r = Where (c, floor, k)"),
     "where a condition holds", {}),
    ("the mean square is quantised", norm(root="i = QuantizeLinear (m, f, z8) d = DequantizeLinear (i, f, z8) "
     "e = Add (d, eps) r = Sqrt (e)"), "the mean square is quantised; fuse before quantising",
     {"opset": 21, "constants": {"f": np.float32(0.5), "z8": np.uint8(0)}}),
    ("the square is quantised", norm(mean="i = QuantizeLinear (q, f, z8) d = DequantizeLinear (i, f, z8) "
     "m = ReduceMean (d, last)"), "the square is quantised; fuse before quantising",
     {"opset": 21, "constants": {"f": np.float32(0.5), "z8": np.uint8(0)}}),
    ("a mean square that is the result", "q = Mul (x, x) m = ReduceMean (q, last) y = Identity (m)",
     "nothing divides x by its root", {"outputs": "float[b,s,1] y"}),
    ("a squared error", "d = Sub (x, z) q = Mul (d, d) m = ReduceMean (q, last) y = Neg (m)",
     "y (Neg) is not a piece of a norm", {"inputs": "float[b,s,8] x, float[b,s,8] z", "outputs": "float[b,s,1] y"}),
]  # fmt: skip

RARE: list[Case] = [
    *(Case("left out", name, text, 1) for name, text in _LEFT_OUT.items()),
    *(Case("neutral", name, text, 1, constants=more) for name, (text, more) in _NEUTRAL.items()),
    *(
        Case("neutral", f"Clip, {name}", norm(mean="m = ReduceMean <axes=[-1]> (q)", root=text), 1, opset=9)
        for name, text in _OLD_CLIP.items()
    ),
    *(
        Case("two steps", name, f"{text} {_SCALED}", 1, constants={**_TWO_AXES, "both": np.int64([1, 2])}, **_RECTANGLE)
        for name, text in _TWO_STEPS.items()
    ),
    *(Case("layout", name, text, 1, **more) for name, text, more in _LAYOUTS),
    *(Case("root of n", name, text, 1, **{"zero_row": False, **more}) for name, text, more in _ROOT_N),
    *(Case("wide", name, text, 1, opset=23, **more) for name, text, more in _WIDE),
    *(Case("equal", name, text, 1, **more) for name, text, more in _EQUAL),
    *(Case("no reduction", name, text, 1, **more) for name, text, more in _POOLED),
    *(Case("Where", name, norm(root=text), 1) for name, text in _WHERE.items()),
    *(Case("rare decoy", name, text, 0, reason=reason, **more) for name, text, reason, more in _DECOYS),
]
