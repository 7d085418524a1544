"""Norms of a sum: the statistics are those of the sum as the model rounded it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .case import Case, norm

__all__ = ["RESIDUAL"]

_TWO = "float[b,s,8] x, float[b,s,8] z"
_OF_SUM = norm(square="q = Pow (t, two)", inverse="n = Div (t, r)")
_ADD = ("AddRMSNorm",)
_HALF = (
    "t = Add (x, z) c = Cast <to=1> (t) q = Pow (c, two) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) "
    "n = Div (c, r) h = Cast <to=TT> (n) y = Mul (h, WW)"
)


_RECIPROCAL = _HALF.replace(
    "n = Div (c, r) h = Cast <to=TT> (n)", "i = Reciprocal (r) g = Cast <to=TT> (i) h = Mul (t, g)"
)


def _residual(name: str, text: str, norms: int | tuple[int, ...] = 1, **more: Any) -> Case:
    return Case("residual", name, text, norms, **{"inputs": _TWO, "cancels": True, **more})


def _post(count: int) -> str:
    """`count` norms, each of whose output is added to the stream, as post-norm models have it."""
    steps = [
        f"q{i} = Pow (x{i}, two) m{i} = ReduceMean (q{i}, last) e{i} = Add (m{i}, eps) r{i} = Sqrt (e{i}) "
        f"n{i} = Div (x{i}, r{i}) k{i} = Mul (n{i}, w) x{i + 1} = Add (x{i}, k{i})"
        for i in range(count)
    ]
    return " ".join(["x0 = Identity (x)", *steps, f"y = Identity (x{count})"])


RESIDUAL: list[Case] = [
    _residual("rank 3", f"t = Add (x, z) {_OF_SUM}", kinds=_ADD),
    _residual("rank 2", f"t = Add (x, z) {_OF_SUM}", inputs="float[b,8] x, float[b,8] z", outputs="float[b,8] y",
              kinds=_ADD),
    _residual("rank 4", f"t = Add (x, z) {_OF_SUM}", inputs="float[b,2,s,8] x, float[b,2,s,8] z",
              outputs="float[b,2,s,8] y", kinds=_ADD),
    _residual("the sum is a graph output", f"t = Add (x, z) {_OF_SUM}", outputs="float[b,s,8] y, float[b,s,8] t",
              kinds=_ADD),
    _residual("the sum is used later", f"t = Add (x, z) {_OF_SUM} u = Add (t, y)",
              outputs="float[b,s,8] u", kinds=_ADD),
    _residual("the sum is used before and after", f"t = Add (x, z) a = Neg (t) {_OF_SUM} u = Sub (y, a)",
              outputs="float[b,s,8] u", kinds=_ADD),
    _residual("x twice", f"t = Add (x, x) {_OF_SUM}", inputs="float[b,s,8] x"),
    _residual("broadcast residual [H]", f"t = Add (x, bias) {_OF_SUM}", inputs="float[b,s,8] x", kinds=("RMSNorm",)),
    _residual("broadcast residual [B,1,H]", f"t = Add (x, z) {_OF_SUM}", inputs="float[b,s,8] x, float[b,1,8] z",
              kinds=("RMSNorm",)),
    _residual("broadcast on the left", f"t = Add (z, x) {_OF_SUM}", inputs="float[b,s,8] x, float[1,s,8] z",
              kinds=("RMSNorm",)),
    _residual("symbols that may differ", f"t = Add (x, z) {_OF_SUM}", inputs="float[b,s,8] x, float[c,s,8] z",
              dims={"c": 1}),
    _residual("symbols that differ on both sides", f"t = Add (x, z) {_OF_SUM}", inputs="float[b,k,8] x, float[c,s,8] z",
              dims={"c": 1, "k": 1}),
    _residual("sum of three", f"a = Add (x, z) t = Add (a, g) {_OF_SUM}", inputs=f"{_TWO}, float[b,s,8] g", kinds=_ADD),
    _residual("sum of three, right", f"a = Add (x, z) t = Add (g, a) {_OF_SUM}", inputs=f"{_TWO}, float[b,s,8] g",
              kinds=_ADD),
    _residual("Sum of two", f"t = Sum (x, z) {_OF_SUM}"),
    _residual("bias before", f"a = Add (x, bias) t = Add (a, z) {_OF_SUM}", kinds=_ADD),
    _residual("bias after", f"a = Add (x, z) t = Add (a, bias) {_OF_SUM}", kinds=("RMSNorm",)),
    _residual("two norms of one sum",
              f"t = Add (x, z) {_OF_SUM} q2 = Pow (t, two) m2 = ReduceMean (q2, last) e2 = Add (m2, eps) "
              "r2 = Sqrt (e2) i2 = Reciprocal (r2) n2 = Mul (t, i2) y2 = Mul (n2, v)", 2,
              outputs="float[b,s,8] y, float[b,s,8] y2"),
    _residual("a chain of sums",
              f"t = Add (x, z) {_OF_SUM} f = Relu (y) u = Add (t, f) q2 = Pow (u, two) m2 = ReduceMean (q2, last) "
              "e2 = Add (m2, eps) r2 = Sqrt (e2) n2 = Div (u, r2) y2 = Mul (n2, v)", 2,
              outputs="float[b,s,8] y2, float[b,s,8] u", kinds=("AddRMSNorm", "AddRMSNorm")),
    _residual("post-norm, once", _post(1), 1, inputs="float[b,s,8] x"),
    _residual("post-norm, three times", _post(3), 3, inputs="float[b,s,8] x"),
    _residual("Sub is no residual", f"t = Sub (x, z) {_OF_SUM}", kinds=("RMSNorm",)),
    _residual("not asked for", f"t = Add (x, z) {_OF_SUM}", kinds=("RMSNorm",), options={"residual": False}),
    _residual("statistics of the sum, x divided", f"t = Add (x, z) {norm(square='q = Pow (t, two)')}", 0),
    *(
        _residual(f"rounded sum, {dtype}", _HALF.replace("TT", number).replace("WW", weight), kinds=_ADD,
                  inputs=f"{dtype}[b,s,8] x, {dtype}[b,s,8] z", outputs=f"{dtype}[b,s,8] y", cancels=False)
        for dtype, number, weight in (("float16", "10", "w16"), ("bfloat16", "16", "wb"))
    ),
    *(
        _residual(f"rounded sum and reciprocal, {dtype}", _RECIPROCAL.replace("TT", number).replace("WW", weight),
                  kinds=("AddRMSNormReciprocal",), inputs=f"{dtype}[b,s,8] x, {dtype}[b,s,8] z",
                  outputs=f"{dtype}[b,s,8] y", cancels=False)
        for dtype, number, weight in (("float16", "10", "w16"), ("bfloat16", "16", "wb"))
    ),
    _residual("sum in float32 of halves",
              f"a = Cast <to=1> (x) b2 = Cast <to=1> (z) t = Add (a, b2) {_OF_SUM}",
              inputs="float16[b,s,8] x, float16[b,s,8] z"),
    _residual("sum in float32, then rounded",
              "a = Cast <to=1> (x) b2 = Cast <to=1> (z) u = Add (a, b2) t = Cast <to=10> (u) c = Cast <to=1> (t) "
              "q = Pow (c, two) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (c, r) "
              "h = Cast <to=10> (n) y = Mul (h, w16)",
              inputs="float16[b,s,8] x, float16[b,s,8] z", outputs="float16[b,s,8] y", cancels=False),
    _residual("statistics of the unrounded sum",
              "t = Add (x, z) a = Cast <to=1> (x) b2 = Cast <to=1> (z) u = Add (a, b2) q = Pow (u, two) "
              "m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) c = Cast <to=1> (t) n = Div (c, r) "
              "h = Cast <to=10> (n) y = Mul (h, w16)", 0,
              inputs="float16[b,s,8] x, float16[b,s,8] z", outputs="float16[b,s,8] y", cancels=False),
    _residual("of a constant", f"t = Add (x, c) {_OF_SUM}", inputs="float[3,5,8] x", outputs="float[3,5,8] y",
              constants={"c": np.float32(np.linspace(-1, 1, 120)).reshape(3, 5, 8)}),
]  # fmt: skip
