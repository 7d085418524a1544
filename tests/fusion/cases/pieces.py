"""Each piece of the grammar alone: square, mean square, root, epsilon, scale."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from .case import Case, norm

__all__ = ["PIECES"]

_SQUARES: dict[str, tuple[str, dict[str, Any]]] = {
    "Mul": ("q = Mul (x, x)", {}),
    "Mul of a copy": ("i = Identity (x) q = Mul (i, x)", {}),
    "Pow float": ("q = Pow (x, two)", {}),
    "Pow int64": ("q = Pow (x, int_two)", {}),
    "Pow int32": ("q = Pow (x, p)", {"p": np.int32(2)}),
    "Pow double": ("q = Pow (x, p)", {"p": np.float64(2)}),
    "Pow float16": ("q = Pow (x, p)", {"p": np.float16(2)}),
    "Pow [1]": ("q = Pow (x, p)", {"p": np.float32([2])}),
    "Pow [1,1,1]": ("q = Pow (x, p)", {"p": np.float32([[[2]]])}),
    "Pow Constant": ("p = Constant <value_float=2.0> () q = Pow (x, p)", {}),
    "Pow Constant tensor": ("p = Constant <value = float {2}> () q = Pow (x, p)", {}),
    "Pow Cast of int64": ("p = Cast <to=1> (int_two) q = Pow (x, p)", {}),
    "Pow Identity": ("p = Identity (two) q = Pow (x, p)", {}),
    "Pow CastLike": ("p = CastLike (int_two, x) q = Pow (x, p)", {}),
    "Abs Mul": ("a = Abs (x) q = Mul (a, a)", {}),
    "Abs Pow": ("a = Abs (x) q = Pow (a, two)", {}),
}

_MEANS: dict[str, tuple[str, dict[str, Any]]] = {
    "axis positive": ("q = Pow (x, two) m = ReduceMean (q, a)", {"a": np.int64([2])}),
    "keepdims by default": ("q = Pow (x, two) m = ReduceMean (q, last)", {}),
    "noop_with_empty_axes of given axes": (
        "q = Pow (x, two) m = ReduceMean <keepdims=1, noop_with_empty_axes=1> (q, last)",
        {},
    ),
    "keepdims 0, Unsqueeze": (
        "q = Pow (x, two) k = ReduceMean <keepdims=0> (q, last) m = Unsqueeze (k, last)",
        {},
    ),
    "keepdims 0, Unsqueeze positive": (
        "q = Pow (x, two) k = ReduceMean <keepdims=0> (q, a) m = Unsqueeze (k, a)",
        {"a": np.int64([2])},
    ),
    "keepdims 0, Reshape": (
        "q = Pow (x, two) k = ReduceMean <keepdims=0> (q, last) m = Reshape (k, z)",
        {"z": np.int64([0, 0, 1])},
    ),
    "axes Constant node": ("a = Constant <value_ints=[-1]> () q = Pow (x, two) m = ReduceMean (q, a)", {}),
    "axes Range": (
        "q = Pow (x, two) a = Range (i2, i3, i1) m = ReduceMean (q, a)",
        {"i1": np.int64(1), "i2": np.int64(2), "i3": np.int64(3)},
    ),
    "axes Range from the rank": (
        "q = Pow (x, two) h = Shape (x) k = Size (h) j = Add (k, m1) a = Range (j, k, i1) m = ReduceMean (q, a)",
        {"i1": np.int64(1), "m1": np.int64(-1)},
    ),
    "axes computed": (
        "q = Pow (x, two) a = Sub (i1, i2) m = ReduceMean (q, a)",
        {"i1": np.int64([1]), "i2": np.int64([2])},
    ),
    "ReduceSum / n": ("q = Pow (x, two) t = ReduceSum (q, last) m = Div (t, eight)", {}),
    "ReduceSum * 1/n": ("q = Pow (x, two) t = ReduceSum (q, last) m = Mul (t, eighth)", {}),
    "1/n * ReduceSum": ("q = Pow (x, two) t = ReduceSum (q, last) m = Mul (eighth, t)", {}),
    "ReduceSum / n [1]": ("q = Pow (x, two) t = ReduceSum (q, last) m = Div (t, k)", {"k": np.float32([8])}),
    "ReduceSum / Cast n": (
        "q = Pow (x, two) t = ReduceSum (q, last) f = Cast <to=1> (k) m = Div (t, f)",
        {"k": np.int64(8)},
    ),
    "ReduceSum / shape": (
        "q = Pow (x, two) t = ReduceSum (q, last) h = Shape (x) g = Gather (h, k) f = Cast <to=1> (g) m = Div (t, f)",
        {"k": np.int64(-1)},
    ),
    "ReduceSum / shape of the square, positive": (
        "q = Pow (x, two) t = ReduceSum (q, last) h = Shape (q) g = Gather (h, k) f = Cast <to=1> (g) m = Div (t, f)",
        {"k": np.int64(2)},
    ),
    "ReduceSum / Shape start": (
        "q = Pow (x, two) t = ReduceSum (q, last) h = Shape <start=-1> (x) f = Cast <to=1> (h) m = Div (t, f)",
        {},
    ),
    "ReduceSum / Size of the scale": (
        "q = Pow (x, two) t = ReduceSum (q, last) h = Size (w) f = Cast <to=1> (h) m = Div (t, f)",
        {},
    ),
    "ReduceSum * Reciprocal of the shape": (
        "q = Mul (x, x) t = ReduceSum (q, last) h = Shape <start=2, end=3> (x) f = Cast <to=1> (h) i = Reciprocal (f) "
        "m = Mul (t, i)",
        {},
    ),
    "ReduceSumSquare / n": ("t = ReduceSumSquare (x, last) m = Div (t, eight)", {}),
    "ReduceSumSquare * 1/n": ("t = ReduceSumSquare (x, last) m = Mul (t, eighth)", {}),
    "ReduceL2 squared / n": ("l = ReduceL2 (x, last) t = Mul (l, l) m = Div (t, eight)", {}),
    "ReduceL2 Pow 2 * 1/n": ("l = ReduceL2 (x, last) t = Pow (l, two) m = Mul (t, eighth)", {}),
    "(ReduceL2 * n^-0.5) squared": ("l = ReduceL2 (x, last) t = Mul (l, inverse_root8) m = Mul (t, t)", {}),
    "(ReduceL2 / sqrt n) squared": ("l = ReduceL2 (x, last) t = Div (l, root8) m = Pow (t, two)", {}),
    "Einsum / n": ('t = Einsum <equation="bsh,bsh->bs"> (x, x) u = Unsqueeze (t, last) m = Div (u, eight)', {}),
    "Einsum of an ellipsis": (
        't = Einsum <equation="...i,...i->..."> (x, x) u = Unsqueeze (t, last) m = Mul (u, eighth)',
        {},
    ),
    "Expand of the mean": (
        "q = Pow (x, two) k = ReduceMean (q, last) h = Shape (x) m = Expand (k, h)",
        {},
    ),
}

_ROOTS: dict[str, str] = {
    "Sqrt, Div": "e = Add (m, eps) r = Sqrt (e) n = Div (x, r)",
    "Sqrt, Reciprocal, Mul": "e = Add (m, eps) r = Sqrt (e) i = Reciprocal (r) n = Mul (x, i)",
    "Sqrt, Reciprocal, Mul left": "e = Add (m, eps) r = Sqrt (e) i = Reciprocal (r) n = Mul (i, x)",
    "Div (1, Sqrt)": "e = Add (m, eps) r = Sqrt (e) i = Div (one, r) n = Mul (x, i)",
    "Reciprocal, Sqrt": "e = Add (m, eps) i = Reciprocal (e) r = Sqrt (i) n = Mul (x, r)",
    "Div (1, e), Sqrt": "e = Add (m, eps) i = Div (one, e) r = Sqrt (i) n = Mul (x, r)",
    "Pow -0.5": "e = Add (m, eps) r = Pow (e, minus_half) n = Mul (x, r)",
    "Pow 0.5": "e = Add (m, eps) r = Pow (e, half) n = Div (x, r)",
    "Pow 0.5, Reciprocal": "e = Add (m, eps) r = Pow (e, half) i = Reciprocal (r) n = Mul (i, x)",
    "Pow (Sqrt, -1)": "e = Add (m, eps) r = Sqrt (e) i = Pow (r, minus_one) n = Mul (x, i)",
    "epsilon outside": "r = Sqrt (m) e = Add (r, eps) n = Div (x, e)",
    "epsilon outside, left": "r = Sqrt (m) e = Add (eps, r) n = Div (x, e)",
    "epsilon outside, Reciprocal": "r = Sqrt (m) e = Add (r, eps) i = Reciprocal (e) n = Mul (x, i)",
    "epsilon inside and outside": "e = Add (m, eps) r = Sqrt (e) d = Add (r, floor) n = Div (x, d)",
    "floor Max": "r = Sqrt (m) d = Max (r, floor) n = Div (x, d)",
    "floor Max left": "r = Sqrt (m) d = Max (floor, r) n = Div (x, d)",
    "floor Clip": "r = Sqrt (m) d = Clip (r, floor) n = Div (x, d)",
    "floor of the mean Max": "d = Max (m, floor) r = Sqrt (d) n = Div (x, r)",
    "floor of the mean Clip": "d = Clip (m, floor) r = Sqrt (d) n = Div (x, r)",
    "epsilon and floor": "e = Add (m, eps) r = Sqrt (e) d = Max (r, floor) n = Div (x, d)",
    "epsilon outside and floor": "r = Sqrt (m) e = Add (r, eps) d = Clip (e, floor) n = Div (x, d)",
}

_NO_EPSILON: dict[str, str] = {
    "epsilon absent": "q = Pow (x, two) m = ReduceMean (q, last) r = Sqrt (m) n = Div (x, r)",
    "epsilon zero": "q = Pow (x, two) m = ReduceMean (q, last) e = Add (m, zero) r = Sqrt (e) n = Div (x, r)",
    "ReduceL2 * n^-0.5": "l = ReduceL2 (x, last) r = Mul (l, inverse_root8) n = Div (x, r)",
    "ReduceL2 / sqrt n, Reciprocal": "l = ReduceL2 (x, last) r = Div (l, root8) i = Reciprocal (r) n = Mul (x, i)",
    "ReduceL2, sqrt n afterwards": "l = ReduceL2 (x, last) d = Div (x, l) n = Mul (d, root8)",
    "LpNormalization": "d = LpNormalization <axis=-1, p=2> (x) n = Mul (d, root8)",
    "LpNormalization by default": "d = LpNormalization (x) n = Mul (root8, d)",
}

_NORMALIZE: dict[str, str] = {
    "F.normalize": "l = ReduceL2 (x, last) c = Clip (l, tiny) d = Div (x, c) n = Mul (d, root8)",
    "F.normalize with Expand": (
        "l = ReduceL2 (x, last) c = Clip (l, tiny) h = Shape (x) k = Expand (c, h) d = Div (x, k) n = Mul (d, root8)"
    ),
    "F.normalize with Max": "l = ReduceL2 (x, last) c = Max (l, tiny) d = Div (x, c) n = Mul (d, root8)",
    "F.normalize of Pow": (
        "q = Pow (x, two) t = ReduceSum (q, last) l = Pow (t, half) c = Clip (l, tiny) d = Div (x, c) "
        "n = Mul (d, root8)"
    ),
}

_F32 = np.float32(1e-6)
_EPSILONS: dict[str, tuple[str, Any, float]] = {
    "[]": ("e = Add (m, k)", _F32, float(_F32)),
    "[1]": ("e = Add (m, k)", _F32.reshape(1), float(_F32)),
    "[1,1]": ("e = Add (m, k)", _F32.reshape(1, 1), float(_F32)),
    "[1,1,1]": ("e = Add (m, k)", _F32.reshape(1, 1, 1), float(_F32)),
    "left": ("e = Add (k, m)", _F32, float(_F32)),
    "Constant": ("k = Constant <value = float {0.25}> () e = Add (m, k)", None, 0.25),
    "Constant value_float": ("k = Constant <value_float=0.25> () e = Add (m, k)", None, 0.25),
    "Constant value_floats": ("k = Constant <value_floats=[0.25]> () e = Add (m, k)", None, 0.25),
    "Identity": ("c = Identity (k) e = Add (m, c)", _F32, float(_F32)),
    "Identity of Constant": ("k = Constant <value_float=0.25> () c = Identity (k) e = Add (m, c)", None, 0.25),
    "Cast from double": ("c = Cast <to=1> (k) e = Add (m, c)", np.float64(1e-5), float(np.float32(1e-5))),
    "Cast from float16": ("c = Cast <to=1> (k) e = Add (m, c)", np.float16(1e-5), float(np.float16(1e-5))),
    "Cast from bfloat16": (
        "c = Cast <to=1> (k) e = Add (m, c)",
        np.array(1e-5, ml_dtypes.bfloat16),
        float(np.array(1e-5, ml_dtypes.bfloat16)),
    ),
    "Cast from float16 subnormal": ("c = Cast <to=1> (k) e = Add (m, c)", np.float16(6e-8), 2.0**-24),
    "Cast from bfloat16 subnormal": (
        "c = Cast <to=1> (k) e = Add (m, c)",
        np.array(2.0**-130, ml_dtypes.bfloat16),
        2.0**-130,
    ),
    "CastLike": ("c = CastLike (k, m) e = Add (m, c)", np.float64(1e-5), float(np.float32(1e-5))),
    "CastLike float16": ("c = CastLike (k, x) e = Add (m, c)", np.float16(1e-5), float(np.float16(1e-5))),
    "of the formula's paper, 1e-8": ("e = Add (m, k)", np.float32(1e-8), float(np.float32(1e-8))),
    "large": ("e = Add (m, k)", np.float32(10), 10.0),
    "Unsqueeze": ("c = Unsqueeze (k, last) e = Add (m, c)", _F32, float(_F32)),
    "Reshape": ("j = Constant <value_ints=[1]> () c = Reshape (k, j) e = Add (m, c)", _F32, float(_F32)),
}

_SCALES: dict[str, tuple[str, dict[str, Any]]] = {
    "right": ("n = Div (x, r) y = Mul (n, w)", {}),
    "left": ("n = Div (x, r) y = Mul (w, n)", {}),
    "[1,H]": ("n = Div (x, r) y = Mul (n, w1)", {}),
    "[1,1,H]": ("n = Div (x, r) y = Mul (n, w11)", {}),
    "[]": ("n = Div (x, r) y = Mul (n, w_scalar)", {}),
    "[1]": ("n = Div (x, r) y = Mul (n, w_one)", {}),
    "none": ("y = Div (x, r)", {}),
    "1 + w": ("n = Div (x, r) k = Add (one, w) y = Mul (n, k)", {}),
    "w + 1": ("n = Div (x, r) k = Add (w, one) y = Mul (k, n)", {}),
    "Constant": ("n = Div (x, r) k = Constant <value_floats=[1.,2.,3.,-4.,5.,6.,7.,8.]> () y = Mul (n, k)", {}),
    "Identity": ("n = Div (x, r) k = Identity (w) y = Mul (n, k)", {}),
    "Cast from float16": ("n = Div (x, r) k = Cast <to=1> (w16) y = Mul (n, k)", {}),
    "(x * w) * r": ("i = Reciprocal (r) k = Mul (x, w) y = Mul (k, i)", {}),
    "(w * x) / r": ("k = Mul (w, x) y = Div (k, r)", {}),
    "x * (r * w)": ("i = Reciprocal (r) k = Mul (i, w) y = Mul (x, k)", {}),
    "(w * r) * x": ("i = Reciprocal (r) k = Mul (w, i) y = Mul (k, x)", {}),
    "two": ("n = Div (x, r) k = Mul (n, w) y = Mul (k, v)", {}),
    "two, one a scalar": ("n = Div (x, r) k = Mul (n, w_scalar) y = Mul (w, k)", {}),
    "bias": ("n = Div (x, r) k = Mul (n, w) y = Add (k, bias)", {}),
    "bias and no scale": ("n = Div (x, r) y = Add (n, bias)", {}),
    "Div by a constant": ("n = Div (x, r) y = Div (n, w)", {}),
    "Reshape between": (
        "n = Div (x, r) k = Reshape (n, z) j = Mul (k, w) h = Shape (x) y = Reshape (j, h)",
        {"z": np.int64([-1, 8])},
    ),
    "[S,H]: not of the norm": ("n = Div (x, r) y = Mul (n, k)", {"k": np.float32(np.arange(40).reshape(5, 8) - 9)}),
    "Unsqueeze of the scale": ("n = Div (x, r) k = Unsqueeze (w, z) y = Mul (n, k)", {"z": np.int64([0, 1])}),
    "n * n": ("n = Div (x, r) y = Mul (n, n)", {}),
    "n * x": ("n = Div (x, r) y = Mul (n, x)", {}),
}

_CORE = norm(inverse="", scale="")

_RUNTIME_SCALES: dict[str, tuple[str, str]] = {
    "graph input [H]": ("float[8] g", "n = Div (x, r) y = Mul (n, g)"),
    "graph input [H], left": ("float[8] g", "n = Div (x, r) y = Mul (g, n)"),
    "graph input []": ("float g", "n = Div (x, r) y = Mul (n, g)"),
    "1 + graph input": ("float[8] g", "n = Div (x, r) k = Add (one, g) y = Mul (n, k)"),
    "computed [H]": ("float[8] g", "n = Div (x, r) k = Neg (g) y = Mul (n, k)"),
    "AdaLN [B,1,H]": ("float[b,1,8] g", "n = Div (x, r) k = Add (one, g) y = Mul (n, k)"),
    "AdaLN [B,1,H], with shift": (
        "float[b,1,8] g, float[b,1,8] t",
        "n = Div (x, r) k = Add (one, g) j = Mul (n, k) y = Add (j, t)",
    ),
    "gate [B,S,H]": ("float[b,s,8] g", "n = Div (x, r) k = Relu (g) j = Mul (g, k) y = Mul (n, j)"),
    "gate after the scale": ("float[b,s,8] g", "n = Div (x, r) k = Mul (n, w) y = Mul (k, g)"),
    "AdaLN before the norm's own scale": ("float[b,1,8] g", "n = Div (x, r) k = Mul (n, g) y = Mul (k, w)"),
    "(x * g) * r": ("float[8] g", "i = Reciprocal (r) k = Mul (x, g) y = Mul (k, i)"),
}

_NCHW = {"inputs": "float[b,8,h,k] x", "outputs": "float[b,8,h,k] y", "dims": {"h": 4, "k": 3}}
_CHANNEL = "q = Pow (x, two) m = ReduceMean (q, a) e = Add (m, eps) r = Sqrt (e) n = Div (x, r)"
_W8 = np.float32([1.5, -0.7, 0.3, 2.1, -1.2, 0.9, 1.1, 0.4])
_SHAPES = [
    Case("axes", "axis 1 of NCHW, [C,1,1]", f"{_CHANNEL} y = Mul (n, c)", 1, **_NCHW,
         constants={"a": np.int64([1]), "c": _W8.reshape(8, 1, 1)}),
    Case("axes", "axis 1 of NCHW, [1,C,1,1]", f"{_CHANNEL} y = Mul (c, n)", 1, **_NCHW,
         constants={"a": np.int64([1]), "c": _W8.reshape(1, 8, 1, 1)}),
    Case("axes", "axis -3 of NCHW", f"{_CHANNEL} y = Mul (n, c)", 1, **_NCHW,
         constants={"a": np.int64([-3]), "c": _W8.reshape(8, 1, 1)}),
    Case("axes", "axis 1 of NCHW, no scale", f"{_CHANNEL} y = Identity (n)", 1, **_NCHW,
         constants={"a": np.int64([1])}),
    Case("axes", "axis 1 of rank 3", f"{_CHANNEL} y = Mul (n, c)", 1, inputs="float[b,8,k] x", outputs="float[b,8,k] y",
         dims={"k": 3}, constants={"a": np.int64([1]), "c": _W8.reshape(8, 1)}),
    Case("axes", "axis 1, the scale along axis 2", f"{_CHANNEL} y = Mul (n, w)", 1, inputs="float[b,5,8] x",
         outputs="float[b,5,8] y", constants={"a": np.int64([1])}),
    Case("axes", "two last axes", f"{_CHANNEL} y = Mul (n, c)", 1, inputs="float[b,2,4] x", outputs="float[b,2,4] y",
         constants={"a": np.int64([-2, -1]), "c": _W8.reshape(2, 4)}),
    Case("axes", "two last axes, in the other order", f"{_CHANNEL} y = Mul (n, c)", 1, inputs="float[b,2,4] x",
         outputs="float[b,2,4] y", constants={"a": np.int64([-1, -2]), "c": _W8.reshape(2, 4)}),
    Case("axes", "two last axes, positive", f"{_CHANNEL} y = Mul (n, c)", 1, inputs="float[b,2,4] x",
         outputs="float[b,2,4] y", constants={"a": np.int64([1, 2]), "c": _W8.reshape(1, 2, 4)}),
    Case("axes", "two last axes, scale of the last alone", f"{_CHANNEL} y = Mul (n, c)", 1, inputs="float[b,2,8] x",
         outputs="float[b,2,8] y", constants={"a": np.int64([1, 2]), "c": _W8}),
    Case("axes", "three last axes", f"{_CHANNEL} y = Identity (n)", 1, inputs="float[b,2,2,3] x",
         outputs="float[b,2,2,3] y", constants={"a": np.int64([-3, -2, -1])}),
    Case("axes", "all axes of a vector, by default",
         "q = Pow (x, two) m = ReduceMean (q) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, w)", 1,
         inputs="float[8] x", outputs="float[8] y", zero_row=False),
    Case("axes", "all axes by default",
         "q = Pow (x, two) m = ReduceMean (q) e = Add (m, eps) r = Sqrt (e) y = Div (x, r)",
         1, inputs="float[3,5,8] x", outputs="float[3,5,8] y"),
    Case("axes", "n = 1, the scale grows the output", norm(), 1, inputs="float[b,s,1] x"),
    Case("axes", "n may be 1, and the scale grow the output", norm(), 1, inputs="float[b,s,h] x",
         outputs="float[b,s,k] y", dims={"h": 1}),
    Case("axes", "n unknown", norm(), 1, inputs="float[b,s,h] x", outputs="float[b,s,k] y", dims={"h": 8}),
    Case("axes", "rank 1", norm(), 1, inputs="float[8] x", outputs="float[8] y", zero_row=False),
    Case("axes", "rank 2", norm(), 1, inputs="float[b,8] x", outputs="float[b,8] y"),
    Case("axes", "rank 4", norm(), 1, inputs="float[b,2,s,8] x", outputs="float[b,2,s,8] y"),
    Case("axes", "rank 5", norm(), 1, inputs="float[b,2,1,s,8] x", outputs="float[b,2,1,s,8] y"),
    Case("axes", "no symbol known", norm(), 1, inputs="float[a,c,8] x", outputs="float[d,e,f] y",
         dims={"a": 2, "c": 3}),
    Case("axes", "rank of the input unknown", norm(), 1, shapes=False, valid=False),
    Case("axes", "rank of x unknown", f"x = Reshape (z, g) {norm()}", 1, inputs="float[t] z, int64[k] g",
         feeds={"z": np.linspace(-3, 2, 120, dtype=np.float32), "g": np.int64([3, 5, 8])}),
    Case("axes", "rank of x unknown, positive axis",
         f"x = Reshape (z, g) {norm(mean='m = ReduceMean (q, a)')}", None, inputs="float[t] z, int64[k] g",
         constants={"a": np.int64([2])},
         feeds={"z": np.linspace(-3, 2, 120, dtype=np.float32), "g": np.int64([3, 5, 8])}),
    Case("axes", "rank of x unknown, positive axis, and it is not the last",
         f"x = Reshape (z, g) {norm(mean='m = ReduceMean (q, a)')}", None, inputs="float[t] z, int64[k] g",
         constants={"a": np.int64([1])},
         feeds={"z": np.linspace(-3, 2, 240, dtype=np.float32), "g": np.int64([2, 5, 3, 8])},
         outputs="float[b,s,c,8] y"),
    Case("axes", "all sizes static", norm(), 1, inputs="float[3,5,8] x", outputs="float[3,5,8] y"),
    Case("axes", "odd size", norm(scale="y = Mul (n, c)"), 1, inputs="float[b,s,111] x", outputs="float[b,s,111] y",
         constants={"c": np.linspace(-2, 2, 111, dtype=np.float32)}),
]  # fmt: skip


def _grown(name: str, shape: tuple[int, ...], outputs: str) -> Case:
    array = np.float32(np.linspace(-1, 2, int(np.prod(shape)))).reshape(shape)
    return Case("scale", name, norm(scale="y = Mul (n, c)"), 1, outputs=outputs, constants={"c": array})


def _old(name: str, text: str, **more: Any) -> Case:
    return Case("mean", f"{name}, axes as attribute", text, 1, opset=13, **more)


_ATTRIBUTES = [
    _old("ReduceMean", norm(mean="m = ReduceMean <axes=[-1]> (q)")),
    _old("ReduceMean positive", norm(mean="m = ReduceMean <axes=[2], keepdims=1> (q)")),
    _old("ReduceMean keepdims 0", norm(mean="k = ReduceMean <axes=[-1], keepdims=0> (q) m = Unsqueeze (k, last)")),
    _old("ReduceSumSquare", norm(square="", mean="t = ReduceSumSquare <axes=[-1]> (x) m = Div (t, eight)")),
    _old("ReduceL2", norm(square="", mean="t = ReduceL2 <axes=[-1]> (x) k = Mul (t, t) m = Div (k, eight)")),
    _old("two axes of ReduceMean", norm(mean="m = ReduceMean <axes=[1,2]> (q)", scale="y = Mul (n, c)"),
         inputs="float[b,2,4] x", outputs="float[b,2,4] y", constants={"c": _W8.reshape(2, 4)}),
]  # fmt: skip

_HIDDEN = "q = Pow (x, two) a = Identity (last) m = ReduceMean <keepdims=1> (q, a)"
_OLD_MEAN = "m = ReduceMean <axes=[-1]> (q)"
_FOUND = [  # by the generator
    Case("found", "axes behind Identity, epsilon [1,1]",
         norm(square="", mean=_HIDDEN, root="e = Add (m, k) r = Sqrt (e)"), 1, inputs="float[b,8] x",
         outputs="float[b,8] y", constants={"k": np.float32([[3e-4]])}),
    Case("found", "axes behind Identity, exponent [1,1,1]",
         norm(square="", mean=_HIDDEN, root="e = Add (m, eps) r = Pow (e, k)", inverse="n = Mul (x, r)"), 1,
         constants={"k": np.float32([[[-0.5]]])}),
    Case("found", "axes behind Identity, n [1,1,1]",
         norm(square="q = Pow (x, two) a = Identity (last)", mean="t = ReduceSum (q, a) m = Mul (t, k)"), 1,
         constants={"k": np.float32([[[0.125]]])}),
    Case("found", "axes behind Identity, floor [1,1,1]",
         norm(square="", mean=_HIDDEN, root="k = Sqrt (m) r = Max (k, f)"), 1,
         constants={"f": np.float32([[[0.125]]])}),
    Case("found", "x cast twice, scaled before the division",
         "c = Cast <to=1> (x) d = Cast <to=1> (x) k = Mul (w, d) a = Abs (c) q = Pow (a, two) "
         "m = ReduceMean (q, last) e = Add (m, eps) r = Pow (e, half) i = Pow (r, minus_one) y = Mul (k, i)", 1,
         inputs="bfloat16[b,s,8] x"),
    Case("found", "scale behind Cast and Identity, multiplied into the inverse",
         norm(inverse="i = Reciprocal (r) j = Identity (w16) c = Cast <to=1> (j)",
              scale="k = Mul (c, i) y = Mul (k, x)"), 1),
    Case("found", "x centred with a mean that is unsqueezed",
         "k = ReduceMean <keepdims=0> (x, last) u = Unsqueeze (k, last) d = Sub (x, u) q = Pow (d, two) "
         "m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (d, r) y = Mul (n, w)", 0, cancels=True,
         is_like_a_norm=False),
    Case("found", "norms of two element types in an old opset",
         norm(mean=_OLD_MEAN) + " c = Cast <to=1> (z) q2 = Mul (c, c) m2 = ReduceMean <axes=[-1]> (q2) "
         "e2 = Add (m2, eps) r2 = Sqrt (e2) n2 = Div (c, r2) h = Cast <to=10> (n2) y2 = Mul (h, w16)", 2, opset=13,
         inputs="float[b,s,8] x, float16[b,s,8] z", outputs="float[b,s,8] y, float16[b,s,8] y2"),
    Case("found", "norms of two half types in an old opset, one of a sum",
         "t = Add (x, x) c = Cast <to=1> (t) q = Mul (c, c) m = ReduceMean <axes=[-1]> (q) e = Add (m, eps) "
         "r = Sqrt (e) n = Div (c, r) h = Cast <to=10> (n) y = Mul (h, w16) c2 = Cast <to=1> (z) q2 = Mul (c2, c2) "
         "m2 = ReduceMean <axes=[-1]> (q2) e2 = Add (m2, floor) r2 = Sqrt (e2) n2 = Div (c2, r2) k2 = Mul (n2, w) "
         "y2 = Cast <to=16> (k2)", 2, opset=13, inputs="float16[b,s,8] x, bfloat16[b,s,8] z",
         outputs="float16[b,s,8] y, float16[b,s,8] t, bfloat16[b,s,8] y2"),
    Case("found", "norms of two epsilons in opset 11",
         norm(mean=_OLD_MEAN) + " q2 = Mul (z, z) m2 = ReduceMean <axes=[-1]> (q2) e2 = Add (m2, floor) "
         "r2 = Sqrt (e2) y2 = Div (z, r2)", 1, opset=11, inputs="float[b,s,8] x, float[b,s,8] z",
         outputs="float[b,s,8] y, float[b,s,8] y2", reason="epsilon 0.3, not 1e-06"),
]  # fmt: skip

_GROUPED = (
    "{gated} k = Reshape (u, groups) q = Mul (k, k) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) "
    "i = Reciprocal (r) d = Mul (k, i) n = Reshape (d, back) y = Mul (n, w)"
)
_GROUPS = {"groups": np.int64([0, 0, 2, 4]), "back": np.int64([0, 0, 8])}
_GROUP_CASES = [
    Case("scale", "grouped norm", _GROUPED.format(gated="u = Identity (x)"), 1, constants=_GROUPS),
    Case(
        "scale",
        "grouped norm of a gated value",
        _GROUPED.format(gated="f = Relu (g) j = Mul (g, f) u = Mul (x, j)"),
        1,
        inputs="float[b,s,8] x, float[b,s,8] g",
        constants=_GROUPS,
    ),
]

PIECES: list[Case] = [
    *(Case("square", name, norm(square=text), 1, constants=more) for name, (text, more) in _SQUARES.items()),
    *(Case("mean", name, norm(square="", mean=text), 1, constants=more) for name, (text, more) in _MEANS.items()),
    *_ATTRIBUTES,
    *(Case("root", name, norm(root=text, inverse=""), 1) for name, text in _ROOTS.items()),
    *(
        Case("root", name, f"{text} y = Mul (n, w)", 1, zero_row=False, epsilon=0.0)
        for name, text in _NO_EPSILON.items()
    ),
    *(Case("root", name, f"{text} y = Mul (n, w)", 1) for name, text in _NORMALIZE.items()),
    *(
        Case(
            "epsilon",
            name,
            norm(root=f"{text} r = Sqrt (e)"),
            1,
            epsilon=value,
            constants={} if array is None else {"k": array},
        )
        for name, (text, array, value) in _EPSILONS.items()
    ),
    *(
        Case("scale", name, f"{_CORE} {text}", 1, constants=more, cancels="bias" in name)
        for name, (text, more) in _SCALES.items()
    ),
    *(
        Case("scale", name, f"{_CORE} {text}", 1, inputs=f"float[b,s,8] x, {more}", cancels="shift" in name)
        for name, (more, text) in _RUNTIME_SCALES.items()
    ),
    Case("scale", "overridable initialiser", norm(), 1, overridable=("w",)),
    _grown("[1,1,1,H] grows the rank", (1, 1, 1, 8), "float[1,b,s,8] y"),
    _grown("[2,1,1,H] grows the output", (2, 1, 1, 8), "float[2,b,s,8] y"),
    _grown("[1,1,1,1] grows the rank", (1, 1, 1, 1), "float[1,b,s,8] y"),
    Case(
        "scale",
        "two scales, one after a bias",
        f"{_CORE} n = Div (x, r) k = Mul (n, w) j = Add (k, bias) y = Mul (j, v)",
        1,
        cancels=True,
    ),
    *_GROUP_CASES,
    *_SHAPES,
    *_FOUND,
]
