"""Norms with a gate in front or behind: one op where it rounds as the model does."""

from __future__ import annotations

from typing import Any

import numpy as np

from .case import Case, norm

__all__ = ["GATE"]

_TWO = "float[b,s,8] x, float[b,s,8] z"
_SILU = "u = Sigmoid (z) g = Mul (z, u)"
_OF_PRODUCT = norm(square="q = Pow (t, two)", inverse="n = Div (t, r)")
_FRONT = f"{_SILU} t = Mul (x, g) {_OF_PRODUCT}"
_BEHIND = f"{norm(scale='k = Mul (n, w)')} {_SILU} y = Mul (k, g)"
_WIDE = "a = Cast <to=1> (x) c = Cast <to=1> (z) u = Sigmoid (c) g = Mul (c, u)"
_CORE = "q = Pow (t, two) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (t, r)"
_MAMBA = f"{_WIDE} t = Mul (a, g) {_CORE} h = Cast <to=TT> (n) y = Mul (WW, h)"
_QWEN = (
    f"{_WIDE} t = Identity (a) {_CORE} h = Cast <to=TT> (n) k = Mul (WW, h) o = Cast <to=1> (k) p = Mul (o, g) "
    "y = Cast <to=TT> (p)"
)
_ONCE = f"{_WIDE} t = Identity (a) {_CORE} k = Mul (n, w) p = Mul (k, g) y = Cast <to=TT> (p)"
_SHAPES = "split = Constant <value_ints = [0,0,2,4]> () join = Constant <value_ints = [0,0,8]> ()"
_GROUPS = f"{_SHAPES} {_SILU} t0 = Mul (x, g) t = Reshape (t0, split) {_CORE} j = Reshape (n, join) y = Mul (w, j)"

_SIGMOID: dict[str, Any] = {"cancels": True}
"""Where a Sigmoid stays: ONNX Runtime's is off by about 1e-7, however small the result."""

_SMALL = {"z": np.float32(np.linspace(-2, 2, 120)).reshape(3, 5, 8)}
"""Where it stays in front of the norm, which divides by the size of what it is off by."""

_IN_FRONT, _IS_BEHIND, _PLAIN = ("SiluGateRMSNorm",), ("RMSNormSiluGate",), ("RMSNorm",)
_HALVES = (("float16", "10", "w16"), ("bfloat16", "16", "wb"))


def _gate(name: str, text: str, kinds: tuple[str, ...], **more: Any) -> Case:
    """The option says so; the comparison with other fusers, which know no gates, has cases without options only."""
    return Case("gate", name, text, 1, **{"inputs": _TWO, "kinds": kinds, "options": {"gate": True}, **more})


def _half(name: str, text: str, kinds: tuple[str, ...], half: tuple[str, str, str], **more: Any) -> Case:
    dtype, number, weight = half
    inputs = f"{dtype}[b,s,8] x, {dtype}[b,s,8] z"
    text = text.replace("TT", number).replace("WW", weight)
    return _gate(f"{name}, {dtype}", text, kinds, inputs=inputs, outputs=f"{dtype}[b,s,8] y", **more)


GATE: list[Case] = [
    _gate("in front", _FRONT, _IN_FRONT),
    _gate("behind", _BEHIND, _IS_BEHIND),
    _gate("in front, the gate first", _FRONT.replace("(x, g)", "(g, x)"), _IN_FRONT),
    _gate("behind, the gate first", _BEHIND.replace("(k, g)", "(g, k)"), _IS_BEHIND),
    _gate("Swish", _FRONT.replace(_SILU, "g = Swish (z)"), _IN_FRONT, opset=24, onnxruntime="1.24"),
    _gate("z / (1 + exp(-z))",
          _BEHIND.replace(_SILU, "a1 = Neg (z) a2 = Exp (a1) a3 = Add (one, a2) g = Div (z, a3)"), _IS_BEHIND),
    _gate("groups", _GROUPS, _IN_FRONT),
    _gate("one group", _GROUPS.replace("2,4", "1,8"), _IN_FRONT),
    *(_half("Mamba-2", _MAMBA, _IN_FRONT, half) for half in _HALVES),
    *(_half("Qwen3-Next", _QWEN, _IS_BEHIND, half) for half in _HALVES),
    *(_half("once", _ONCE, _IS_BEHIND, half) for half in _HALVES),
    _gate("both sides", f"{_FRONT.replace('y =', 'k =')} y = Mul (k, g)", _IN_FRONT, **_SIGMOID),
    _gate("silu(z) is an output", _FRONT, _IN_FRONT, outputs="float[b,s,8] y, float[b,s,8] g", **_SIGMOID),
    _gate("the product is an output", _FRONT, _PLAIN, outputs="float[b,s,8] y, float[b,s,8] t",
          reason="read by others", feeds=_SMALL),
    _gate("the norm is read", _BEHIND, _PLAIN, outputs="float[b,s,8] y, float[b,s,8] k", reason="read by others",
          **_SIGMOID),
    _gate("HardSwish", _FRONT.replace(_SILU, "g = HardSwish (z)"), _PLAIN),
    _gate("a sigmoid", _BEHIND.replace(_SILU, "g = Sigmoid (z)"), ("RMSNormSigmoidGate",), **_SIGMOID),
    _gate("a sigmoid in front", _FRONT.replace(_SILU, "g = Sigmoid (z)"), _PLAIN, **_SIGMOID),
    _gate("a sigmoid of the norm", f"{norm(scale='k = Mul (n, w)')} g = Sigmoid (k) y = Mul (g, k)", _PLAIN,
          inputs="float[b,s,8] x", **_SIGMOID),
    _gate("an activation of the norm", f"{norm(scale='k = Mul (n, w)')} u = Sigmoid (k) y = Mul (k, u)", _PLAIN,
          inputs="float[b,s,8] x", **_SIGMOID),
    _gate("broadcast [H]", _BEHIND, _PLAIN, inputs="float[b,s,8] x, float[8] z"),
    _gate("broadcast [B,1,H]", _FRONT, _PLAIN, inputs="float[b,s,8] x, float[b,1,8] z"),
    _gate("symbols that may differ", _FRONT, _PLAIN, inputs="float[b,s,8] x, float[c,s,8] z", dims={"c": 1},
          reason="not proven to have one shape"),
    _gate("of a sum", f"t = Add (x, z) {_OF_PRODUCT.replace('y =', 'k =')} {_SILU} y = Mul (k, g)", ("AddRMSNorm",),
          **_SIGMOID),
    _gate("not asked for", _FRONT, _PLAIN, options={"gate": False}, feeds=_SMALL),
]  # fmt: skip
