"""The op contract: every name, default and dtype that the Python side, the C++ side and the ONNX bodies share.

    y = scale * x / max(sqrt(mean(x^2 over axes) + epsilon) + rms_epsilon, rms_min)

`plugins/contract.h` says the same to C++; `tests/ops/test_contract.py` holds the two together.
This module imports nothing outside the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "ADD_RMS_NORM",
    "DOMAIN",
    "ELEMENT_TYPES",
    "OPS",
    "PARTIAL_RMS_NORM",
    "PLUGIN_DOMAIN",
    "PLUGIN_VERSION",
    "RMS_NORM",
    "TYPE_CONSTRAINTS",
    "VERSION",
    "Attribute",
    "Op",
]

DOMAIN: Final = "rms_deploy"
"""Domain of the ONNX ops, and namespace of the TensorRT plugins."""

VERSION: Final = 1
"""Opset version of the domain."""

PLUGIN_VERSION: Final = "1"
"""Version under which the TensorRT plugin creators register."""

ELEMENT_TYPES: Final[dict[str, int]] = {"float32": 1, "float16": 10, "bfloat16": 16}
"""ONNX element type of each dtype that X may have. `scale` has the dtype of X, or float32."""

TYPE_CONSTRAINTS: Final[dict[str, tuple[str, ...]]] = {
    "T": ("float32", "float16", "bfloat16"),
    "S": ("float32", "float16", "bfloat16"),
}


@dataclass(frozen=True)
class Attribute:
    """One attribute of an op; `default` None means that the node must carry it."""

    name: str
    kind: Literal["int", "ints", "float"]
    default: int | float | tuple[int, ...] | None
    meaning: str


@dataclass(frozen=True)
class Op:
    """One op: inputs and outputs as (name, type variable), and its attributes."""

    name: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    attributes: tuple[Attribute, ...]
    meaning: str

    def defaults(self) -> dict[str, int | float | tuple[int, ...]]:
        """Attributes that may be left out of a node, with the value that they then have."""
        return {a.name: a.default for a in self.attributes if a.default is not None}


_COMMON = (
    Attribute("axes", "ints", (-1,), "contiguous block of axes normalised over; X is seen as (outer, n, inner)"),
    Attribute("epsilon", "float", 1e-6, "added to the mean square, inside the root"),
    Attribute("rms_epsilon", "float", 0.0, "added to the root"),
    Attribute("rms_min", "float", 0.0, "lower bound of the root"),
    Attribute(
        "scale_type",
        "int",
        ELEMENT_TYPES["float32"],
        "element type in which scale is applied: float32 = one rounding at the end; the type of X = round, then scale",
    ),
)

RMS_NORM: Final = Op(
    "RMSNorm",
    inputs=(("X", "T"), ("scale", "S")),
    outputs=(("Y", "T"),),
    attributes=_COMMON,
    meaning="Y = scale * X / rms(X)",
)

PARTIAL_RMS_NORM: Final = Op(
    "PartialRMSNorm",
    inputs=(("X", "T"), ("scale", "S")),
    outputs=(("Y", "T"),),
    attributes=(
        *_COMMON,
        Attribute("partial_size", "int", None, "the RMS is estimated from the first partial_size of the n elements"),
    ),
    meaning="Y = scale * X / rms(first partial_size elements of X)",
)

ADD_RMS_NORM: Final = Op(
    "AddRMSNorm",
    inputs=(("X", "T"), ("R", "T"), ("scale", "S")),
    outputs=(("Y", "T"), ("Sum", "T")),
    attributes=_COMMON,
    meaning="Sum = X + R rounded to T; Y = RMSNorm(Sum)",
)

OPS: Final[dict[str, Op]] = {op.name: op for op in (RMS_NORM, PARTIAL_RMS_NORM, ADD_RMS_NORM)}


PLUGIN_DOMAIN: Final = "trt.plugins"
"""Domain in which ONNX Runtime's TensorRT provider registers every plugin creator as a custom op."""
