"""The op contract: every name, default and dtype that the Python side, the C++ side and the ONNX bodies share.

    y = scale * x / max(sqrt(mean(x^2 over axes) + epsilon) + rms_epsilon, rms_min)

An op is prologue x norm x epilogue: what is normalised (x, a sum, a gated x), over all or the first elements, and what
is done to the result (nothing, a gate, a shift, quantisation). `Op` derives its name, signature and attributes from
these parts.

RMSNorm, PartialRMSNorm and AddRMSNorm have twins for models that round 1 / rms to a half type and multiply x by it.
Twins are ops of their own, so that a library which does not know them takes the body, or refuses the node, and never
rounds in another order.

`plugins/contract.h` says the same to C++; `tests/ops/test_contract.py` holds the two together.
This module imports nothing outside the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

__all__ = [
    "ADD_FLOAT32_RMS_NORM",
    "ADD_RMS_NORM",
    "ADD_RMS_NORM_QUANTIZE",
    "ADD_RMS_NORM_SHIFT",
    "DOMAIN",
    "ELEMENT_TYPES",
    "OPS",
    "PARTIAL_RMS_NORM",
    "PLUGIN_DOMAIN",
    "PLUGIN_VERSION",
    "QUANTIZED_TYPES",
    "RMS_NORM",
    "RMS_NORM_QUANTIZE",
    "RMS_NORM_SHIFT",
    "RMS_NORM_SIGMOID_GATE",
    "RMS_NORM_SILU_GATE",
    "SILU_GATE_RMS_NORM",
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
"""ONNX element type of each dtype that X may have. `scale`, `shift` and a residual have the dtype of X, or float32."""

QUANTIZED_TYPES: Final[dict[str, int]] = {"int8": 3, "float8e4m3fn": 17}
"""ONNX element type of each dtype that a quantised Y may have."""

TYPE_CONSTRAINTS: Final[dict[str, tuple[str, ...]]] = {
    "T": tuple(ELEMENT_TYPES),
    "S": tuple(ELEMENT_TYPES),
    "U": tuple(ELEMENT_TYPES),
    "Q": tuple(QUANTIZED_TYPES),
}
"""dtypes of each type variable: T of X, S of scale and shift, U of a residual and its sum, Q of a quantised Y."""


@dataclass(frozen=True)
class Attribute:
    """One attribute of an op; `default` None means that the node must carry it."""

    name: str
    kind: Literal["int", "ints", "float"]
    default: int | float | tuple[int, ...] | None
    meaning: str


_COMMON: Final = (
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

_PARTIAL_SIZE: Final = Attribute(
    "partial_size", "int", None, "the RMS is estimated from the first partial_size of the n elements"
)

_QUANTIZATION: Final = (
    Attribute("y_scale", "float", None, "Y is the result of the norm, divided by y_scale, rounded and saturated"),
    Attribute("output_dtype", "int", None, "element type of Y: int8 or float8e4m3fn"),
    Attribute(
        "precision",
        "int",
        ELEMENT_TYPES["float32"],
        "element type to which the result and the quotient are rounded before Y is: float32, or the type of X",
    ),
)

_GATES: Final = {"SiluGate": "Z * sigmoid(Z)", "SigmoidGate": "sigmoid(Z)"}
"""What a gate multiplies by, in float32."""


@dataclass(frozen=True)
class Op:
    """One op, by its parts.

    A gate, a shift, a float32 sum, quantisation, and an R of another type than X need axes that end with the last.
    """

    meaning: str
    prologue: Literal["", "Add", "AddFloat32", "SiluGate"] = ""
    """What is normalised: X; Sum rounded to T; X + R in float32, not rounded; X * Z * sigmoid(Z) in float32."""
    is_partial: bool = False
    """Whether the mean is over the first elements only."""
    epilogue: Literal["", "SiluGate", "SigmoidGate", "Shift", "Quantize"] = ""
    """What is done to the result: it is multiplied by Z * sigmoid(Z) or sigmoid(Z), in float32, before it is rounded
    to T; shift is added, where it was scaled; it is quantised, after it was rounded to T."""
    is_reciprocal: bool = False
    """Whether 1 / rms is rounded to `scale_type` before x is multiplied by it."""

    @property
    def name(self) -> str:
        """The parts in the order in which they are computed: AddRMSNorm, RMSNormSiluGate."""
        norm = "PartialRMSNorm" if self.is_partial else "RMSNorm"
        return f"{self.prologue}{norm}{self.epilogue}{'Reciprocal' if self.is_reciprocal else ''}"

    @property
    def is_add(self) -> bool:
        """Whether it normalises the sum of two tensors, which is its second output."""
        return self.prologue in ("Add", "AddFloat32")

    @property
    def is_gated(self) -> bool:
        """Whether it has a gate, before the norm or after it."""
        return bool(self.gate)

    @property
    def is_shifted(self) -> bool:
        """Whether it adds a shift to its result."""
        return self.epilogue == "Shift"

    @property
    def is_quantized(self) -> bool:
        """Whether its first output is quantised."""
        return self.epilogue == "Quantize"

    @property
    def without_quantization(self) -> Op:
        """The op that gives what this one quantises."""
        return OPS[replace(self, epilogue="").name] if self.is_quantized else self

    @property
    def gate(self) -> str:
        """Its gate, before the norm or after it: SiluGate, SigmoidGate, or empty."""
        return next((part for part in (self.prologue, self.epilogue) if part in _GATES), "")

    @property
    def gates_first(self) -> bool:
        """Whether its gate is in front of the norm."""
        return self.prologue in _GATES

    @property
    def inputs(self) -> tuple[tuple[str, str], ...]:
        """Names and type variables. R and Z have the shape of X, shift that of scale."""
        second = (("R", "U"),) if self.is_add else (("Z", "T"),) if self.is_gated else ()
        last = (("shift", "S"),) if self.is_shifted else ()
        return (("X", "T"), *second, ("scale", "S"), *last)

    @property
    def scale_index(self) -> int:
        """The place of scale among the inputs. Those before it have the shape of X."""
        return [name for name, _ in self.inputs].index("scale")

    @property
    def outputs(self) -> tuple[tuple[str, str], ...]:
        """Names and type variables; each output has the shape of X."""
        y = ("Y", "Q" if self.is_quantized else "T")
        return (y, ("Sum", "U")) if self.is_add else (y,)

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """Those of every op, and what a partial mean or quantisation needs."""
        partial = (_PARTIAL_SIZE,) if self.is_partial else ()
        return (*_COMMON, *partial, *(_QUANTIZATION if self.is_quantized else ()))

    def defaults(self) -> dict[str, int | float | tuple[int, ...]]:
        """Attributes that may be left out of a node, with the value that they then have."""
        return {a.name: a.default for a in self.attributes if a.default is not None}


RMS_NORM: Final = Op("Y = scale * X / rms(X)")

PARTIAL_RMS_NORM: Final = Op("Y = scale * X / rms(first partial_size elements of X)", is_partial=True)

ADD_RMS_NORM: Final = Op("Sum = X + R rounded to U; Y = RMSNorm(Sum rounded to T)", "Add")

ADD_FLOAT32_RMS_NORM: Final = Op("Y = RMSNorm(X + R), where the sum is float32; Sum = X + R rounded to U", "AddFloat32")

RMS_NORM_SILU_GATE: Final = Op(
    "Y = RMSNorm(X) * Z * sigmoid(Z), where RMSNorm(X) is rounded to scale_type and the gate is applied in float32",
    epilogue="SiluGate",
)

RMS_NORM_SIGMOID_GATE: Final = Op(
    "Y = RMSNorm(X) * sigmoid(Z), where RMSNorm(X) is rounded to scale_type and the gate is applied in float32",
    epilogue="SigmoidGate",
)

SILU_GATE_RMS_NORM: Final = Op("Y = RMSNorm(X * Z * sigmoid(Z)), where the product is float32", "SiluGate")

_SHIFTED: Final = "where RMSNorm(X) is rounded to scale_type, in which shift is added"

RMS_NORM_SHIFT: Final = Op(f"Y = RMSNorm(X) + shift, {_SHIFTED}", epilogue="Shift")

ADD_RMS_NORM_SHIFT: Final = Op("Sum = X + R rounded to U; Y = RMSNormShift(Sum rounded to T)", "Add", epilogue="Shift")

RMS_NORM_QUANTIZE: Final = Op(
    "Y = QuantizeLinear(RMSNorm(X), y_scale) in the type precision, with a zero point of 0", epilogue="Quantize"
)

ADD_RMS_NORM_QUANTIZE: Final = Op(
    "Sum = X + R rounded to U; Y = RMSNormQuantize(Sum rounded to T)", "Add", epilogue="Quantize"
)


def reciprocal(op: Op) -> Op:
    """The op that rounds 1 / rms, for one that does not."""
    meaning = "; x is multiplied by 1 / rms rounded to scale_type, then by scale, each in that type"
    return replace(op, meaning=op.meaning + meaning, is_reciprocal=True)


_WITH_TWIN: Final = (RMS_NORM, PARTIAL_RMS_NORM, ADD_RMS_NORM)

_WITHOUT_TWIN: Final = (
    RMS_NORM_SILU_GATE,
    SILU_GATE_RMS_NORM,
    RMS_NORM_SIGMOID_GATE,
    RMS_NORM_SHIFT,
    ADD_RMS_NORM_SHIFT,
    ADD_FLOAT32_RMS_NORM,
    RMS_NORM_QUANTIZE,
    ADD_RMS_NORM_QUANTIZE,
)

OPS: Final[dict[str, Op]] = {op.name: op for op in (*_WITH_TWIN, *map(reciprocal, _WITH_TWIN), *_WITHOUT_TWIN)}


PLUGIN_DOMAIN: Final = "trt.plugins"
"""Domain in which ONNX Runtime's TensorRT provider registers every plugin creator as a custom op."""
