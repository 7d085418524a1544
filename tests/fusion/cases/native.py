"""Norms that are one op already, of any domain, as sources."""

from __future__ import annotations

from typing import Any

import numpy as np

from rms_deploy.ops.reference import rms_norm

from .case import CONSTANTS, Arrays, Case

__all__ = ["NATIVE"]


def _simplified(feeds: Arrays) -> list[Any]:
    return [rms_norm(feeds["x"], CONSTANTS["w"], epsilon=0.25)]


_DEFAULT_EPSILON = float(np.float32(1e-5))


def _two_types(feeds: Arrays) -> list[Any]:
    return [rms_norm(feeds["x"], CONSTANTS["w"], epsilon=_DEFAULT_EPSILON)]


def _half_scale(feeds: Arrays) -> list[Any]:
    return [rms_norm(feeds["x"], CONSTANTS["w16"].astype(np.float32), epsilon=_DEFAULT_EPSILON)]


def _rounded_before_scale(weight: str) -> Any:
    # the function of the specification; onnx's evaluator has code of its own that leaves the rounding out
    def formula(feeds: Arrays) -> list[Any]:
        return [rms_norm(feeds["x"], CONSTANTS[weight], epsilon=_DEFAULT_EPSILON, round_before_scale=True)]

    return formula


_STANDARD: dict[str, tuple[str, dict[str, Any]]] = {
    "by default": ("y = RMSNormalization (x, w)", {"epsilon": float(np.float32(1e-5))}),
    "epsilon": ("y = RMSNormalization <epsilon=0.25> (x, w)", {"epsilon": 0.25}),
    "axis": ("y = RMSNormalization <axis=2> (x, w)", {}),
    "stash_type": ("y = RMSNormalization <stash_type=1> (x, w)", {}),
    "two axes": (
        "y = RMSNormalization <axis=-2> (x, c)",
        {
            "inputs": "float[b,2,8] x",
            "outputs": "float[b,2,8] y",
            "constants": {"c": np.float32(np.arange(16)).reshape(2, 8)},
        },
    ),
    "two axes, scale of the last": (
        "y = RMSNormalization <axis=-2> (x, w)",
        {
            "inputs": "float[b,2,8] x",
            "outputs": "float[b,2,8] y",
        },
    ),
    "scale is a graph input": ("y = RMSNormalization (x, g)", {"inputs": "float[b,s,8] x, float[8] g"}),
    "scale is a scalar": ("y = RMSNormalization (x, w_scalar)", {}),
    "scale per row": ("y = RMSNormalization (x, g)", {"inputs": "float[b,s,8] x, float[b,1,8] g", "norms": (0, 1)}),
    "float16": (
        "y = RMSNormalization (x, w16)",
        {"inputs": "float16[b,s,8] x", "outputs": "float16[b,s,8] y", "formula": _rounded_before_scale("w16")},
    ),
    "bfloat16": (
        "y = RMSNormalization (x, wb)",
        {"inputs": "bfloat16[b,s,8] x", "outputs": "bfloat16[b,s,8] y", "formula": _rounded_before_scale("wb")},
    ),
    "in float32 between casts": (
        "c = Cast <to=1> (x) n = RMSNormalization (c, w) y = Cast <to=10> (n)",
        {"inputs": "float16[b,s,8] x", "outputs": "float16[b,s,8] y"},
    ),
    "and a scale after it": ("n = RMSNormalization (x, ones) y = Mul (n, w)", {"constants": {"ones": np.ones(8, "f")}}),
    "of a sum": (
        "t = Add (x, z) y = RMSNormalization (t, w)",
        {"inputs": "float[b,s,8] x, float[b,s,8] z", "kinds": ("AddRMSNorm",)},
    ),
}


_TWO = "float[b,s,8] x, float[b,s,8] z"
_MICROSOFT = ("com.microsoft",)
_SKIP = "com.microsoft.SkipSimplifiedLayerNormalization <epsilon=0.25>"

NATIVE: list[Case] = [
    *(
        Case("native", f"RMSNormalization, {name}", text, **{"norms": 1, "opset": 23, **more})
        for name, (text, more) in _STANDARD.items()
    ),
    Case("native", "RMSNormalization of two types, as torch's exporter writes it",
         "n = RMSNormalization (x, w) y = Cast <to=10> (n)", 1,
         inputs="float16[b,s,8] x", outputs="float16[b,s,8] y", opset=23, valid=False, formula=_two_types),
    Case("native", "RMSNormalization of two types, the other way round",
         "c = Cast <to=1> (x) n = RMSNormalization (c, w16) y = Cast <to=10> (n)", 1,
         inputs="float16[b,s,8] x", outputs="float16[b,s,8] y", opset=23, valid=False, formula=_half_scale),
    Case("native", "SimplifiedLayerNormalization", "y = SimplifiedLayerNormalization <axis=-1, epsilon=0.25> (x, w)", 1,
         valid=False, epsilon=0.25),
    Case("native", "SimplifiedLayerNormalization, positive axis",
         "y = SimplifiedLayerNormalization <axis=2, epsilon=0.25> (x, w)", 1, valid=False),
    Case("native", "SimplifiedLayerNormalization, float16",
         "y = SimplifiedLayerNormalization <axis=-1, epsilon=0.25> (x, w16)", 1, valid=False,
         inputs="float16[b,s,8] x", outputs="float16[b,s,8] y"),
    Case("native", "SimplifiedLayerNormalization with the inverse root used",
         "n, i = SimplifiedLayerNormalization <axis=-1, epsilon=0.25> (x, w) y = Mul (n, i)", (0, 1), valid=False),
    Case("native", "SimplifiedLayerNormalization of com.microsoft",
         "y = com.microsoft.SimplifiedLayerNormalization <axis=-1, epsilon=0.25> (x, w)", 1, domains=_MICROSOFT,
         formula=_simplified),
    Case("native", "SkipSimplifiedLayerNormalization", f"y = {_SKIP} (x, z, w)", 1, inputs=_TWO, domains=_MICROSOFT,
         kinds=("AddRMSNorm",)),
    Case("native", "SkipSimplifiedLayerNormalization with bias", f"y = {_SKIP} (x, z, w, bias)", 1, inputs=_TWO,
         domains=_MICROSOFT),
    Case("native", "SkipSimplifiedLayerNormalization with its sum",
         f"y, m, i, t = {_SKIP} (x, z, w)", 1, inputs=_TWO, outputs="float[b,s,8] y, float[b,s,8] t",
         domains=_MICROSOFT, kinds=("AddRMSNorm",)),
    Case("native", "SkipSimplifiedLayerNormalization with bias and sum",
         f"y, m, i, t = {_SKIP} (x, z, w, bias) u = Neg (t)", 1, inputs=_TWO,
         outputs="float[b,s,8] y, float[b,s,8] u", domains=_MICROSOFT),
    Case("native", "SkipSimplifiedLayerNormalization in a chain",
         f"a, m, i, t = {_SKIP} (x, z, w) c = Relu (a) y, k, l, u = {_SKIP} (c, t, v)", 2, inputs=_TWO,
         outputs="float[b,s,8] y, float[b,s,8] u", domains=_MICROSOFT, kinds=("AddRMSNorm", "AddRMSNorm")),
]  # fmt: skip
