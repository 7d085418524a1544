# ruff: noqa: E501 - a graph a line
"""One norm in the spellings that the forms tell apart, for the tests of targets, of their passes and of unfuse."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["NORM", "ONLY_OURS", "SPELLINGS", "assert_near"]


_TWO = "float[b,s,8] x, float[b,s,8] z"


NORM = "q = Mul (h, h) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (h, r)"


SPELLINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "norm": (f"h = Exp (x) {NORM} y = Mul (n, scale)", {}),
    "groups": (
        f"h = Tanh (x) {NORM} y = Mul (n, w)",
        {"inputs": "float[b,s,4,8] x, float[4,8] w", "outputs": "float[b,s,4,8] y"},
    ),
    "weightless": (f"h = Exp (x) {NORM} y = Tanh (n)", {}),
    "residual": (f"h = Add (x, z) {NORM} k = Mul (n, scale) y = Sub (k, h)", {"inputs": _TWO}),
    "residual of rank 4": (
        f"h = Add (x, z) {NORM} y = Mul (n, scale)",
        {"inputs": "float[b,2,s,8] x, float[b,2,s,8] z", "outputs": "float[b,2,s,8] y"},
    ),
    "gate in front": (
        f"s = Sigmoid (z) g = Mul (z, s) h = Mul (x, g) {NORM} k = Mul (n, scale) y = Tanh (k)",
        {"inputs": _TWO},
    ),
    "gate behind": (
        f"h = Exp (x) {NORM} k = Mul (n, scale) s = Sigmoid (z) g = Mul (z, s) y = Mul (k, g)",
        {"inputs": _TWO},
    ),
    "partial": (
        "h = Identity (x) o = Constant <value_ints = [0]> () k = Constant <value_ints = [3]> () f = Slice (h, o, k, last) "
        + NORM.replace("(h, h)", "(f, f)")
        + " y = Mul (n, scale)",
        {},
    ),
    "epsilon outside, floor": (
        "q = Mul (x, x) m = ReduceMean (q, last) r = Sqrt (m) e = Add (r, eps) f = Max (e, floor) n = Div (x, f) y = Mul (n, scale)",
        {},
    ),
    "channels": (
        "h = Exp (x) a = Constant <value_ints = [1]> () " + NORM.replace("last", "a") + " y = Tanh (n)",
        {"inputs": "float[b,6,4,7] x", "outputs": "float[b,6,4,7] y"},
    ),
    "two axes": (
        "h = Exp (x) a = Constant <value_ints = [-2,-1]> () " + NORM.replace("last", "a") + " y = Tanh (n)",
        {"inputs": "float[b,4,7] x", "outputs": "float[b,4,7] y"},
    ),
}


ONLY_OURS = {"partial", "epsilon outside, floor", "channels"}
"""Those that only our ops can express."""


def assert_near(actual: list[Any], expected: list[Any]) -> None:
    """Sixteen roundings of float32, of the largest element: a residual may cancel."""
    for a, e in zip(actual, expected, strict=True):
        tolerance = 16 * np.finfo(np.float32).eps * max(1, np.abs(e).max())
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance)
