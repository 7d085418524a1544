"""Casts in every position: what they lose is part of the model."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from .case import Case, norm

__all__ = ["CASTS"]

_WEIGHT = [1.5, -0.7, 0.3, 2.1, -1.2, 0.9, 1.1, 0.4]
_STATISTIC = "q = Pow (c, two) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e)"
_UP = f"c = Cast <to=1> (x) {_STATISTIC}"

# {T}: number of the half type, {w}: a weight of that type
_HALF = {
    "back before the scale (Llama)": f"{_UP} i = Reciprocal (r) n = Mul (c, i) h = Cast <to=TT> (n) y = Mul (ww, h)",
    "back before the scale, Div": f"{_UP} n = Div (c, r) h = Cast <to=TT> (n) y = Mul (h, ww)",
    "back after the scale (Gemma)": (
        f"{_UP} n = Div (c, r) f = Cast <to=1> (ww) k = Add (one, f) j = Mul (n, k) y = Cast <to=TT> (j)"
    ),
    "back after the scale in float32": f"{_UP} i = Reciprocal (r) n = Mul (c, i) j = Mul (n, w) y = Cast <to=TT> (j)",
    "back, no scale": f"{_UP} n = Div (c, r) y = Cast <to=TT> (n)",
    "x cast twice (T5)": (
        f"{_UP} i = Reciprocal (r) d = Cast <to=1> (x) n = Mul (d, i) h = Cast <to=TT> (n) y = Mul (ww, h)"
    ),
    "every use of x cast": (
        "c = Cast <to=1> (x) d = Cast <to=1> (x) f = Cast <to=1> (x) q = Mul (c, d) m = ReduceMean (q, last) "
        "e = Add (m, eps) r = Sqrt (e) n = Div (f, r) h = Cast <to=TT> (n) y = Mul (h, ww)"
    ),
    "(w * x) * r in float32": f"{_UP} i = Reciprocal (r) k = Mul (w, c) j = Mul (k, i) y = Cast <to=TT> (j)",
    "x * (r * w) in float32": f"{_UP} i = Reciprocal (r) k = Mul (i, w) j = Mul (c, k) y = Cast <to=TT> (j)",
    "Pow, after the cast": (
        "c = Cast <to=1> (x) q = Pow (c, two) m = ReduceMean (q, last) e = Add (m, eps) r = Pow (e, minus_half) "
        "n = Mul (c, r) h = Cast <to=TT> (n) y = Mul (h, ww)"
    ),
    "1 + w in the half type": (
        f"{_UP} n = Div (c, r) h = Cast <to=TT> (n) o = Cast <to=TT> (one) k = Add (o, ww) y = Mul (h, k)"
    ),
    "CastLike back": f"{_UP} n = Div (c, r) h = CastLike (n, x) y = Mul (h, ww)",
    "scale twice, before and after the cast": (
        f"{_UP} n = Div (c, r) j = Mul (n, w) h = Cast <to=TT> (j) y = Mul (h, ww)"
    ),
    "through double": (
        "c = Cast <to=11> (x) q = Pow (c, two) m = ReduceMean (q, last) e = Add (m, eps64) r = Sqrt (e) n = Div (c, r) "
        "h = Cast <to=TT> (n) y = Mul (h, ww)"
    ),
}
_RECIPROCAL = {
    "inverse root cast back first": f"{_UP} i = Reciprocal (r) g = Cast <to=TT> (i) n = Mul (x, g) y = Mul (n, ww)",
    "inverse root cast back first, no scale": f"{_UP} i = Reciprocal (r) g = Cast <to=TT> (i) y = Mul (g, x)",
    "inverse root by Pow, CastLike": (
        "c = Cast <to=1> (x) q = Pow (c, two) m = ReduceMean (q, last) e = Add (m, eps) i = Pow (e, minus_half) "
        "g = CastLike (i, x) n = Mul (x, g) y = Mul (ww, n)"
    ),
    "inverse root by 1 / r": f"{_UP} i = Div (one, r) g = Cast <to=TT> (i) n = Mul (x, g) y = Mul (n, ww)",
    "inverse root in double": (
        "c = Cast <to=11> (x) q = Pow (c, two) m = ReduceMean (q, last) e = Add (m, eps64) r = Sqrt (e) "
        "i = Reciprocal (r) g = Cast <to=TT> (i) n = Mul (x, g) y = Mul (n, ww)"
    ),
}

_SAME_COUNT = {"scale twice, before and after the cast": (1,)}

_STAYS_WIDE = {
    "stays float32": f"{_UP} n = Div (c, r) y = Mul (n, w)",
    "stays float32, no scale": f"{_UP} y = Div (c, r)",
}

_LOSES = {
    "squared in the half type": (
        "q = Mul (x, x) c = Cast <to=1> (q) m = ReduceMean (c, last) e = Add (m, eps) r = Sqrt (e) d = Cast <to=1> (x) "
        "n = Div (d, r) h = Cast <to=TT> (n) y = Mul (h, ww)"
    ),
    "all in the half type": (
        "q = Pow (x, two) m = ReduceMean (q, last) e = Add (m, kk) r = Sqrt (e) n = Div (x, r) y = Mul (n, ww)"
    ),
    "inverse root cast back first, then scaled": (
        f"{_UP} i = Reciprocal (r) g = Cast <to=TT> (i) k = Mul (g, ww) y = Mul (x, k)"
    ),
    "x scaled, inverse root cast back first": (
        f"{_UP} i = Reciprocal (r) g = Cast <to=TT> (i) k = Mul (x, ww) y = Mul (k, g)"
    ),
    "inverse root cast back and up again": (
        f"{_UP} i = Reciprocal (r) g = Cast <to=TT> (i) f = Cast <to=1> (g) n = Mul (c, f) h = Cast <to=TT> (n) "
        "y = Mul (h, ww)"
    ),
    "inverse root of the sum cast back first": (
        "c = Cast <to=1> (x) q = Pow (c, two) m = ReduceSum (q, last) r = Sqrt (m) i = Reciprocal (r) "
        "g = Cast <to=TT> (i) k = Mul (g, root) n = Mul (x, k) y = Mul (n, ww)"
    ),
    "root cast back first": f"{_UP} g = Cast <to=TT> (r) n = Div (x, g) y = Mul (n, ww)",
    "mean cast back first": (
        "c = Cast <to=1> (x) q = Pow (c, two) m = ReduceMean (q, last) g = Cast <to=TT> (m) e = Add (g, kk) "
        "r = Sqrt (e) n = Div (x, r) y = Mul (n, ww)"
    ),
}

_TYPES = {
    "float16": (10, np.float16),
    "bfloat16": (16, ml_dtypes.bfloat16),
}


def _cases(dtype: str) -> list[Case]:
    number, kind = _TYPES[dtype]
    signature = {"inputs": f"{dtype}[b,s,8] x", "outputs": f"{dtype}[b,s,8] y"}
    constants = {
        "ww": np.array(_WEIGHT, kind),
        "kk": np.array(3e-4, kind),
        "eps64": np.float64(1e-6),
        "root": np.array(8**0.5, kind),
    }
    cases = [
        Case(f"casts, {dtype}", name, text.replace("TT", str(number)), _SAME_COUNT.get(name, 1), **signature,
             constants=constants)
        for name, text in _HALF.items()
    ]  # fmt: skip
    cases += [
        Case(f"reciprocal, {dtype}", name, text.replace("TT", str(number)), 1, **signature, constants=constants,
             kinds=("RMSNormReciprocal",))
        for name, text in _RECIPROCAL.items()
    ]  # fmt: skip
    cases += [Case(f"casts, {dtype}", name, text, 1, inputs=signature["inputs"]) for name, text in _STAYS_WIDE.items()]
    cases += [
        Case(f"loss, {dtype}", name, text.replace("TT", str(number)), 0, **signature, constants=constants)
        for name, text in _LOSES.items()
    ]
    cases += [
        Case(f"loss, {dtype}", f"{name}, precision gain allowed", text.replace("TT", str(number)), 1, **signature,
             constants=constants, options={"allow_precision_gain": True}, gains=True)
        for name, text in _LOSES.items()
    ]  # fmt: skip
    return cases


_FLOAT32 = [
    Case("casts, float32", "double compute",
         "c = Cast <to=11> (x) q = Mul (c, c) m = ReduceMean (q, last) e = Add (m, eps64) r = Sqrt (e) n = Div (c, r) "
         "h = Cast <to=1> (n) y = Mul (h, w)", 1, constants={"eps64": np.float64(1e-6)}),
    Case("casts, float32", "double compute, scale in double",
         "c = Cast <to=11> (x) q = Mul (c, c) m = ReduceMean (q, last) e = Add (m, eps64) r = Sqrt (e) n = Div (c, r) "
         "d = Cast <to=11> (w) h = Mul (n, d) y = Cast <to=1> (h)", 1, constants={"eps64": np.float64(1e-6)}),
    Case("casts, float32", "statistics in double",
         "c = Cast <to=11> (x) q = Pow (c, two) m = ReduceMean (q, last) d = Cast <to=1> (m) e = Add (d, eps) "
         "r = Sqrt (e) n = Div (x, r) y = Mul (n, w)", 1),
    Case("casts, float32", "casts that change nothing",
         "c = Cast <to=1> (x) q = Pow (c, two) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (c, r) "
         "h = Cast <to=1> (n) y = Mul (h, w)", 1),
    Case("casts, float32", "result cast down", f"{norm(scale='d = Mul (n, w)')} y = Cast <to=10> (d)", 1,
         outputs="float16[b,s,8] y"),
    Case("casts, float32", "result cast down before the scale",
         f"{norm(scale='d = Cast <to=10> (n)')} y = Mul (d, w16)", 1, outputs="float16[b,s,8] y"),
    Case("casts, double", "all in double",
         "q = Pow (x, two) m = ReduceMean (q, last) e = Add (m, eps64) r = Sqrt (e) n = Div (x, r) y = Mul (n, w64)", 0,
         inputs="double[b,s,8] x", outputs="double[b,s,8] y",
         constants={"eps64": np.float64(1e-6), "w64": np.float64(_WEIGHT)}),
]  # fmt: skip

CASTS: list[Case] = [*_cases("float16"), *_cases("bfloat16"), *_FLOAT32]
