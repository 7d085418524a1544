"""What looks like RMSNorm and is not, or cannot be known to be: fusing any of these gives wrong numbers.

`None` as number of norms: the same numbers can be had from an RMSNorm, with a folded factor or with less of the graph;
fusing it so, and leaving it, are both right.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .case import Case, norm

__all__ = ["DECOYS"]

_ROOT = "e = Add (m, eps) r = Sqrt (e)"
_MEAN = "q = Pow (x, two) m = ReduceMean (q, last)"
_END = "n = Div (x, r) y = Mul (n, w)"
_ROWS = "float[b,s,8] x, float[b,s,1] g"
_TWO = "float[b,s,8] x, float[b,s,8] z"

_LAYER_NORMS = {
    "LayerNorm": (
        "u = ReduceMean (x, last) d = Sub (x, u) q = Mul (d, d) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) "
        "n = Div (d, r) k = Mul (n, w) y = Add (k, bias)"
    ),
    "LayerNorm without bias": (
        "u = ReduceMean (x, last) d = Sub (x, u) q = Pow (d, two) m = ReduceMean (q, last) e = Add (m, eps) "
        "r = Sqrt (e) n = Div (d, r) y = Mul (n, w)"
    ),
    "LayerNorm, x centred twice": (
        "u = ReduceMean (x, last) d = Sub (x, u) f = Sub (x, u) q = Pow (d, two) m = ReduceMean (q, last) "
        "e = Add (m, eps) r = Sqrt (e) n = Div (f, r) y = Mul (n, w)"
    ),
    "LayerNorm of ReduceSum": (
        "t = ReduceSum (x, last) u = Div (t, eight) d = Sub (x, u) q = Pow (d, two) m = ReduceMean (q, last) "
        "e = Add (m, eps) r = Sqrt (e) i = Reciprocal (r) n = Mul (d, i) y = Mul (n, w)"
    ),
}

_DECOYS: dict[str, str] = {
    "variance instead of mean square": (
        f"u = ReduceMean (x, last) d = Sub (x, u) q = Pow (d, two) m = ReduceMean (q, last) {_ROOT} {_END}"
    ),
    "mean square minus square of the mean": (
        f"u = ReduceMean (x, last) p = Mul (u, u) q = Mul (x, x) t = ReduceMean (q, last) m = Sub (t, p) {_ROOT} {_END}"
    ),
    "square of the mean": f"u = ReduceMean (x, last) m = Mul (u, u) {_ROOT} {_END}",
    "centred numerator only": f"{_MEAN} {_ROOT} d = Sub (x, m) n = Div (d, r) y = Mul (n, w)",
    "mean of x": f"a = Abs (x) m = ReduceMean (a, last) {_ROOT} {_END}",
    "ReduceL1": f"t = ReduceL1 (x, last) m = Div (t, eight) {_ROOT} {_END}",
    "ReduceMax of the squares": f"q = Pow (x, two) m = ReduceMax (q, last) {_ROOT} {_END}",
    "ReduceMin of the squares": f"q = Pow (x, two) m = ReduceMin (q, last) {_ROOT} {_END}",
    "ReduceProd of the squares": f"q = Pow (x, two) m = ReduceProd (q, last) {_ROOT} {_END}",
    "cubed by Mul": f"p = Mul (x, x) a = Abs (x) q = Mul (p, a) m = ReduceMean (q, last) {_ROOT} {_END}",
    "fourth power": f"p = Mul (x, x) q = Mul (p, p) m = ReduceMean (q, last) {_ROOT} {_END}",
    "x * |x|": f"a = Abs (x) q = Mul (x, a) k = ReduceMean (q, last) m = Abs (k) {_ROOT} {_END}",
    "Relu before the square": f"a = Relu (x) q = Pow (a, two) m = ReduceMean (q, last) {_ROOT} {_END}",
    "Relu in the numerator": f"{_MEAN} {_ROOT} a = Relu (x) n = Div (a, r) y = Mul (n, w)",
    "no root": f"{_MEAN} r = Add (m, eps) n = Div (x, r) y = Mul (n, w)",
    "root twice": f"{_MEAN} {_ROOT} k = Sqrt (r) n = Div (x, k) y = Mul (n, w)",
    "times the root": f"{_MEAN} {_ROOT} n = Mul (x, r) y = Mul (n, w)",
    "root divided by x": (
        "a = Abs (x) c = Add (a, one) q = Pow (c, two) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) "
        "n = Div (r, c) y = Mul (n, w)"
    ),
    "Pow -1": f"{_MEAN} e = Add (m, eps) r = Pow (e, minus_one) n = Mul (x, r) y = Mul (n, w)",
    "Pow 0.5, times": f"{_MEAN} e = Add (m, eps) r = Pow (e, half) n = Mul (x, r) y = Mul (n, w)",
    "Pow -0.5, divided": f"{_MEAN} e = Add (m, eps) r = Pow (e, minus_half) n = Div (x, r) y = Mul (n, w)",
    "two over the root": f"{_MEAN} {_ROOT} i = Reciprocal (r) k = Mul (i, i) n = Mul (x, k) y = Mul (n, w)",
    "x added to the square": f"p = Mul (x, x) q = Add (p, x) k = ReduceMean (q, last) m = Abs (k) {_ROOT} {_END}",
    "Min instead of Max": f"{_MEAN} k = Sqrt (m) d = Add (k, eps) r = Min (d, floor) n = Div (x, r) y = Mul (n, w)",
    "Clip with an upper bound": f"{_MEAN} k = Sqrt (m) r = Clip (k, tiny, floor) n = Div (x, r) y = Mul (n, w)",
    "Softmax": "p = Softmax <axis=-1> (x) y = Mul (p, w)",
}  # fmt: skip

_FORMS: list[tuple[str, str, dict[str, Any]]] = [
    ("cubed by Pow", norm(square="q = Pow (x, k)", mean="a = Abs (q) m = ReduceMean (a, last)"),
     {"constants": {"k": np.float32(3)}}),
    ("Pow 2.5 of Abs", norm(square="a = Abs (x) q = Pow (a, k)"), {"constants": {"k": np.float32(2.5)}}),
    ("Pow nearly 2", norm(square="a = Abs (x) q = Pow (a, k)"), {"constants": {"k": np.float32(2.002)}}),
    ("Pow of two exponents", norm(square="q = Pow (x, k)"), {"constants": {"k": np.float32([2, 2, 2, 2, 2, 2, 2, 4])}}),
    ("exponent is a graph input", norm(square="a = Abs (x) q = Pow (a, g)"), {"inputs": "float[b,s,8] x, float g"}),
    ("exponent is overridable", norm(square="q = Pow (x, k)"),
     {"constants": {"k": np.float32(2)}, "overridable": ("k",)}),
    ("product of two tensors", norm(square="p = Mul (x, z) q = Abs (p)"), {"inputs": _TWO}),
    ("other tensor divided", norm(inverse="n = Div (z, r)"), {"inputs": _TWO}),
    ("other tensor multiplied", norm(inverse="i = Reciprocal (r) n = Mul (z, i)"), {"inputs": _TWO}),
    ("shifted tensor divided", norm(inverse="z = Add (x, floor) n = Div (z, r)"), {}),
    ("statistics of the sum, residual divided", norm(square="s = Add (x, z) q = Mul (s, s)"), {"inputs": _TWO}),
    ("weighted mean", norm(mean="p = Mul (q, v) a = Abs (p) m = ReduceMean (a, last)"), {}),
    ("axes not adjacent", norm(mean="m = ReduceMean (q, a)"),
     {"inputs": "float[3,5,8] x", "outputs": "float[3,5,8] y", "constants": {"a": np.int64([0, 2])}}),
    ("axes are a graph input", norm(mean="m = ReduceMean (q, g)"),
     {"inputs": "float[b,s,8] x, int64[1] g", "feeds": {"g": np.int64([1])}}),
    ("axes are overridable", norm(mean="m = ReduceMean (q, a)"),
     {"constants": {"a": np.int64([-1])}, "overridable": ("a",)}),
    ("keepdims 0 along a square", norm(mean="m = ReduceMean <keepdims=0> (q, last)"),
     {"inputs": "float[8,8] x", "outputs": "float[8,8] y"}),
    ("Unsqueeze of another axis", norm(mean="k = ReduceMean <keepdims=0> (q, last) m = Unsqueeze (k, a)"),
     {"inputs": "float[3,8,8] x", "outputs": "float[3,8,8] y", "constants": {"a": np.int64([1])}}),
    ("Reshape to another axis", norm(mean="k = ReduceMean <keepdims=0> (q, last) m = Reshape (k, a)"),
     {"inputs": "float[3,8,8] x", "outputs": "float[3,8,8] y", "constants": {"a": np.int64([3, 1, 8])}}),
    ("Transpose of the root", norm(root="e = Add (m, eps) k = Sqrt (e) r = Transpose <perm=[0,2,1]> (k)",),
     {"inputs": "float[3,8,8] x", "outputs": "float[3,8,8] y"}),
    ("Transpose of x", norm(square="t = Transpose <perm=[0,2,1]> (x) q = Pow (t, two)"),
     {"inputs": "float[3,8,8] x", "outputs": "float[3,8,8] y"}),
    ("empty axes that reduce nothing", norm(mean="m = ReduceMean <noop_with_empty_axes=1> (q, a)"),
     {"constants": {"a": np.int64([])}}),
    ("no axes that reduce nothing", norm(mean="m = ReduceMean <noop_with_empty_axes=1> (q)"),
     {"onnxruntime": "1.24"}),
    ("floor is a graph input", norm(root="k = Sqrt (m) r = Max (k, g)"),
     {"inputs": "float[b,s,8] x, float g", "feeds": {"g": np.float32(0.2)}}),
    ("floor per row", norm(root="k = Sqrt (m) a = Abs (g) h = Add (a, floor) r = Max (k, h)"), {"inputs": _ROWS}),
    ("numerator loses precision", norm(inverse="h = Cast <to=10> (x) d = Cast <to=1> (h) n = Div (d, r)"), {}),
    ("statistics of a rounded x", norm(square="h = Cast <to=10> (x) d = Cast <to=1> (h) q = Pow (d, two)"), {}),
    ("mean square is rounded", norm(root="h = Cast <to=10> (m) d = Cast <to=1> (h) e = Add (d, eps) r = Sqrt (e)"), {}),
    ("root is rounded", norm(root="e = Add (m, eps) k = Sqrt (e) h = Cast <to=16> (k) r = Cast <to=1> (h)"), {}),
    ("through integers", norm(square="h = Cast <to=6> (x) d = Cast <to=1> (h) q = Pow (d, two)"), {}),
    ("a slice of the squares", norm(mean="k = Slice (q, a0, a1, last) m = ReduceMean (k, last)"),
     {"constants": {"a0": np.int64([4]), "a1": np.int64([8])}}),
]  # fmt: skip

_EPSILONS: list[tuple[str, str, dict[str, Any]]] = [
    ("epsilon is a graph input", norm(root="e = Add (m, g) r = Sqrt (e)"),
     {"inputs": "float[b,s,8] x, float g", "feeds": {"g": np.float32(0.7)}}),
    ("epsilon is a cast graph input", norm(root="k = Cast <to=1> (g) e = Add (m, k) r = Sqrt (e)"),
     {"inputs": "float[b,s,8] x, double g", "feeds": {"g": np.float64(0.7)}}),
    ("epsilon is overridable", norm(), {"overridable": ("eps",)}),
    ("epsilon per row", norm(root="a = Abs (g) e = Add (m, a) r = Sqrt (e)"), {"inputs": _ROWS}),
    ("epsilon per constant row", norm(root="e = Add (m, k) r = Sqrt (e)"),
     {"constants": {"k": np.float32([[0.1], [0.2], [0.3], [0.4], [0.5]])}, "inputs": "float[b,5,8] x",
      "outputs": "float[b,5,8] y"}),
    ("epsilon per channel", norm(root="e = Add (m, k) r = Sqrt (e)"),
     {"constants": {"k": np.float32([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])}}),
    ("epsilon of x", norm(root="a = Abs (x) k = ReduceMax (a, last) e = Add (m, k) r = Sqrt (e)"), {}),
    ("epsilon outside is a graph input", norm(root="k = Sqrt (m) r = Add (k, g)"),
     {"inputs": "float[b,s,8] x, float g", "feeds": {"g": np.float32(0.7)}}),
]  # fmt: skip

_EITHER: list[tuple[str, str, dict[str, Any]]] = [
    ("epsilon [1,1,1,1] raises the rank", norm(root="e = Add (m, k) r = Sqrt (e)"),
     {"constants": {"k": np.float32([[[[3e-4]]]])}, "outputs": "float[1,b,s,8] y"}),
    ("epsilon subtracted", norm(root="e = Sub (m, k) r = Sqrt (e)"), {"constants": {"k": np.float32(-3e-4)}}),
    ("sum of squares, not their mean", norm(mean="m = ReduceSum (q, last)"), {}),
    ("L2 norm", "l = ReduceL2 (x, last) c = Max (l, tiny) n = Div (x, c) y = Mul (n, w)", {}),
    ("sum divided by another n", norm(mean="t = ReduceSum (q, last) m = Div (t, k)"),
     {"constants": {"k": np.float32(7)}}),
    ("sum divided by the length of another axis",
     norm(mean="t = ReduceSum (q, last) h = Shape (x) g = Gather (h, k) f = Cast <to=1> (g) m = Div (t, f)"),
     {"constants": {"k": np.int64(1)}}),
    ("sum divided by the size of x",
     norm(mean="t = ReduceSum (q, last) h = Size (x) f = Cast <to=1> (h) m = Div (t, f)"),
     {}),
    ("sum divided by the length of another tensor",
     norm(mean="t = ReduceSum (q, last) h = Shape <start=0, end=1> (g) f = Cast <to=1> (h) m = Div (t, f)"),
     {"inputs": "float[b,s,8] x, float[c] g", "dims": {"c": 6}}),
    ("sum divided by a graph input", norm(mean="t = ReduceSum (q, last) m = Div (t, g)"),
     {"inputs": "float[b,s,8] x, float g", "feeds": {"g": np.float32(3)}}),
    ("mean square times epsilon", norm(root="k = Add (m, one) e = Mul (k, eps) r = Sqrt (e)"), {}),
    ("half of the mean square", norm(root="k = Mul (m, half) e = Add (k, eps) r = Sqrt (e)"), {}),
    ("twice the root", norm(root="e = Add (m, eps) k = Sqrt (e) r = Mul (k, two)"), {}),
    ("two over the root", norm(inverse="i = Div (two, r) n = Mul (x, i)"), {}),
    ("x over twice x", norm(inverse="d = Mul (x, two) n = Div (d, r)"), {}),
    ("of a scaled x, x divided", norm(square="d = Mul (x, two) q = Pow (d, two)"), {}),
    ("absolute x divided", norm(inverse="d = Abs (x) n = Div (d, r)"), {}),
    ("negative x divided", norm(inverse="d = Neg (x) n = Div (d, r)"), {}),
    ("partial: the first four", norm(square="k = Slice (x, a0, a1, last) q = Mul (k, k)"),
     {"constants": {"a0": np.int64([0]), "a1": np.int64([4])}}),
    ("epsilon twice", norm(root="k = Add (m, eps) e = Add (k, eps) r = Sqrt (e)"), {}),
    ("epsilon added to each square", norm(mean="k = Add (q, eps) t = ReduceMean (k, last) m = Identity (t)"), {}),
    ("epsilon negative", norm(root="e = Add (m, k) a = Abs (e) r = Sqrt (a)"), {"constants": {"k": np.float32(-0.1)}}),
    ("epsilon per channel, all equal", norm(root="e = Add (m, k) r = Sqrt (e)"),
     {"constants": {"k": np.full(8, 3e-4, np.float32)}}),
    ("double epsilon is not a float", norm(root="c = Cast <to=11> (m) f = Add (c, k) e = Cast <to=1> (f) r = Sqrt (e)"),
     {"constants": {"k": np.float64(3e-4)}}),
]  # fmt: skip

DECOYS: list[Case] = [
    *(Case("decoy", name, text, 0, is_like_a_norm=False, cancels=True) for name, text in _LAYER_NORMS.items()),
    *(Case("decoy", name, text, 0) for name, text in _DECOYS.items()),
    *(Case("decoy", name, text, 0, **more) for name, text, more in _FORMS),
    *(Case("decoy", name, text, 0, reason="epsilon", **more) for name, text, more in _EPSILONS),
    *(Case("decoy or not", name, text, None, **more) for name, text, more in _EITHER),
]
