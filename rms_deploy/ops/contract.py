"""The op contract: every name, default and dtype that the Python side, the C++ side and the ONNX bodies share.

    y = scale * x / max(sqrt(mean(x^2 over axes) + epsilon) + rms_epsilon, rms_min)

Each op has a twin for models that round 1 / rms to a half type and multiply x by it. The twins are ops of their own, so
that a library which does not know them takes the body, or refuses the node, and never rounds in another order.

`plugins/contract.h` says the same to C++; `tests/ops/test_contract.py` holds the two together.
This module imports nothing outside the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    "reciprocal",
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

    @property
    def is_partial(self) -> bool:
        """Whether the mean is over the first elements only."""
        return any(attribute.name == "partial_size" for attribute in self.attributes)

    @property
    def is_add(self) -> bool:
        """Whether it normalises the sum of two tensors, which is its second output."""
        return len(self.outputs) == 2

    @property
    def is_reciprocal(self) -> bool:
        """Whether 1 / rms is rounded to `scale_type` before x is multiplied by it."""
        return self.name.endswith(_RECIPROCAL)

    def defaults(self) -> dict[str, int | float | tuple[int, ...]]:
        """Attributes that may be left out of a node, with the value that they then have."""
        return {a.name: a.default for a in self.attributes if a.default is not None}


_RECIPROCAL: Final = "Reciprocal"

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


def _twin(op: Op) -> Op:
    meaning = "; x is multiplied by 1 / rms rounded to scale_type, then by scale, each in that type"
    return replace(op, name=op.name + _RECIPROCAL, meaning=op.meaning + meaning)


OPS: Final[dict[str, Op]] = {
    op.name: op
    for op in (
        *(RMS_NORM, PARTIAL_RMS_NORM, ADD_RMS_NORM),
        *(_twin(RMS_NORM), _twin(PARTIAL_RMS_NORM), _twin(ADD_RMS_NORM)),
    )
}


def reciprocal(op: Op) -> Op:
    """The op that rounds 1 / rms, for one that does not."""
    return OPS[op.name + _RECIPROCAL]


PLUGIN_DOMAIN: Final = "trt.plugins"
"""Domain in which ONNX Runtime's TensorRT provider registers every plugin creator as a custom op."""
