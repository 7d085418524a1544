"""How far one result is from another, and how far it may be."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.errors import RunError
from rms_deploy.ops.element_types import ulp_distance

__all__ = [
    "FLOAT_TYPES",
    "FORMULA_TOLERANCE",
    "Difference",
    "difference",
    "is_float",
    "rounding_depth",
    "tolerance_for",
]

FORMULA_TOLERANCE: Final = 2.0**-24
"""The relative L2 difference, 6e-8, that two models of one formula may have in float64.

Float64 itself adds about 1e-15. The rest is for constants: one model may hold an epsilon in float64 or compute 1 / n,
which the other holds in float32, off by 2^-25 on average.
"""

FLOAT_TYPES: Final = (ir.DataType.BFLOAT16, ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""The least precise first."""

_MARGIN: Final = 4.0

_EXACT_OPS: Final = frozenset(
    {
        *("Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements"),
        *("GatherND", "Identity", "Max", "Min", "Neg", "Pad", "Relu", "Reshape", "Shape", "Slice", "SpaceToDepth"),
        *("Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where"),
    }
)
"""Ops that hand numbers on as they are."""


@dataclass(frozen=True)
class Difference:
    """Result `a` against result `e`, elementwise. The norms are over the elements that are finite in both."""

    elements: int
    max_abs: float
    """max |a - e|"""
    max_ulp: int
    """Largest number of representable values between a and e; for integers and booleans, max |a - e|."""
    relative_l2: float
    """||a - e|| / ||e||; where e is all zero, ||a|| / smallest normal number."""
    nonfinite_mismatches: int
    """Elements that are NaN or infinite in one and not the same in the other."""
    finite: int
    """Elements that are finite in both."""

    def within(self, tolerance: float) -> bool:
        """Whether relative_l2 is at most `tolerance` and NaN and infinity stand in the same places."""
        return self.nonfinite_mismatches == 0 and self.relative_l2 <= tolerance

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def difference(actual: NDArray[Any], expected: NDArray[Any]) -> Difference:
    """Compare two results of one shape; differing float dtypes are compared in float64, ulps in that of `actual`.

    Raises:
        RunError: the shapes differ.
    """
    if actual.shape != expected.shape:
        raise RunError(f"the results have shapes {list(actual.shape)} and {list(expected.shape)}; they must be equal")
    a, e = actual.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    finite = np.isfinite(a) & np.isfinite(e)
    same = finite | (np.isnan(a) & np.isnan(e)) | (a == e)
    delta = np.abs(np.subtract(a, e, where=finite, out=np.zeros_like(a)))
    return Difference(
        elements=a.size,
        max_abs=float(delta.max(initial=0.0)),
        max_ulp=_max_ulp(actual.ravel()[finite], expected.ravel()[finite], delta),
        relative_l2=_relative_l2(delta[finite], e[finite], actual.dtype),
        nonfinite_mismatches=int(np.count_nonzero(~same)),
        finite=int(np.count_nonzero(finite)),
    )


def tolerance_for(dtype: np.dtype[Any], depth: int) -> float:
    """4 eps(dtype) sqrt(depth), the relative L2 difference that rounding alone explains.

    One rounding to nearest has an error of eps / (2 sqrt(3)) = 0.29 eps in the root of the mean square, and `depth` of
    them in a row, independent, sqrt(depth) times that. Two results that both round differ by sqrt(2) times as much,
    0.41 eps sqrt(depth). The factor 4 leaves a margin of 10 for ops that amplify errors, as subtraction and softmax do;
    measured, a single norm stays 20 times below it and a small decoder 5 to 20 times.
    Integers and booleans must be equal: 0.

    Args:
        dtype: the narrowest float type that the model rounds to.
        depth: number of roundings on the longest path, as `rounding_depth` gives it.
    """
    if not is_float(dtype):
        return 0.0
    return _MARGIN * _finfo(dtype).eps * math.sqrt(max(depth, 1))


def rounding_depth(model: ir.Model, dtype: np.dtype[Any]) -> int:
    """The largest number of ops in a row that round to `dtype`, from an input to an output.

    An output whose type the model does not say has the type of an input, or the one that Cast names. One that stays
    unknown counts as a rounding to the narrowest float type that the model really has, so that no other is assumed.
    """
    narrowest = _narrowest(model)
    types: dict[ir.Value | None, ir.DataType | None] = {}
    depths: dict[ir.Value | None, int] = {}
    for node in model.graph:
        before = max((depths.get(value, 0) for value in node.inputs), default=0)
        inherited = next((t for v in node.inputs if v is not None and (t := types.get(v) or v.dtype)), None)
        target = ir.DataType(node.attributes.get_int("to", 0)) if node.op_type == "Cast" else inherited
        for output in node.outputs:
            types[output] = output.dtype or target
            depths[output] = before + _rounds(node, types[output], dtype, unknown=narrowest)
    return max((depths.get(output, 0) for output in model.graph.outputs), default=0)


def _rounds(node: ir.Node, result: ir.DataType | None, dtype: np.dtype[Any], *, unknown: ir.DataType | None) -> bool:
    if node.domain == "" and node.op_type in _EXACT_OPS:
        return False
    result = result or unknown
    return result is not None and result != ir.DataType.STRING and result.numpy() == dtype


def _narrowest(model: ir.Model) -> ir.DataType | None:
    """The least precise float type of all that the model says."""
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [output for node in model.graph for output in node.outputs]
    said = {value.dtype for value in values}
    return next((dtype for dtype in FLOAT_TYPES if dtype in said), None)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is a float type, bfloat16 among them."""
    return dtype == ml_dtypes.bfloat16 or np.issubdtype(dtype, np.floating)


@dataclass(frozen=True)
class _Finfo:
    eps: float
    smallest_normal: float


def _finfo(dtype: np.dtype[Any]) -> _Finfo:
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]  # ml_dtypes leaves it untyped
    return _Finfo(float(info.eps), float(info.smallest_normal))


def _max_ulp(actual: NDArray[Any], expected: NDArray[Any], delta: NDArray[np.float64]) -> int:
    if not is_float(actual.dtype):
        return int(delta.max(initial=0.0))
    with np.errstate(over="ignore"):
        return int(ulp_distance(actual, expected.astype(actual.dtype)).max(initial=0))


def _relative_l2(delta: NDArray[np.float64], expected: NDArray[np.float64], dtype: np.dtype[Any]) -> float:
    size = _norm(expected)
    if size == 0.0:
        size = _finfo(dtype).smallest_normal if is_float(dtype) else 1.0
    return _norm(delta) / size


def _norm(values: NDArray[np.float64]) -> float:
    """The 2-norm, without overflow for float64 results near their largest number."""
    largest = float(np.abs(values).max(initial=0.0))
    return largest * float(np.linalg.norm(values / largest)) if largest else 0.0
