"""How far float results may be from each other behind quantisation, where a rounding tips a code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from rms_deploy.ops.contract import DOMAIN, OPS
from rms_deploy.ops.element_types import float_info

__all__ = ["Codes", "codes_before_floats", "tolerance_behind"]

_MARGIN: Final = 4.0
"""As that of `tolerance_for`."""

_FLOATS: Final = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE, None)
"""None: an output whose type nobody says."""


@dataclass(frozen=True)
class Codes:
    """The quantisation in front of the float outputs of a model."""

    count: int
    """The largest number of results in a row that are codes."""
    eps: float
    """The coarsest step of a code, relative to the largest: 2^-7 of int8, 2^-3 of float8e4m3fn."""


def codes_before_floats(model: ir.Model) -> Codes:
    """What float outputs of `model` are behind: QuantizeLinear, DynamicQuantizeLinear, QLinear ops, and ours."""
    counts: dict[ir.Value | None, int] = {}
    eps = 0.0
    for node in model.graph:
        before = max((counts.get(value, 0) for value in node.inputs), default=0)
        counts.update(dict.fromkeys(node.outputs, before))
        if node.outputs and _quantizes(node):
            counts[node.outputs[0]] = before + 1
            eps = max(eps, _step(node.outputs[0].dtype))
    return Codes(max((counts.get(v, 0) for v in model.graph.outputs if v.dtype in _FLOATS), default=0), eps)


def tolerance_behind(codes: Codes, tolerance: float) -> float:
    """min(tolerance^(1 / 2^count), 4 eps sqrt(count)): the relative L2 difference that tipped codes explain.

    Where two results differ by a share d of their size, and their root mean square is c codes, rounding tips 0.6 d c of
    the codes by one. That is a relative L2 difference of 0.8 sqrt(d / c), at most sqrt(d) from one code on. The next
    quantisation has that for d. It ends at what quantisation itself rounds, as in `tolerance_for`.

    Args:
        codes: in front of a result.
        tolerance: without them.
    """
    if not codes.count:
        return tolerance
    tipped: float = tolerance ** (0.5**codes.count)
    return max(tolerance, min(tipped, _MARGIN * codes.eps * math.sqrt(codes.count)))


def _quantizes(node: ir.Node) -> bool:
    if node.domain == DOMAIN:
        return node.op_type in OPS and OPS[node.op_type].is_quantized
    return node.op_type.startswith("QLinear") or node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear")


def _step(dtype: ir.DataType | None) -> float:
    dtype = ir.DataType.INT8 if dtype is None else dtype
    numpy_dtype = np.dtype(dtype.numpy())
    if dtype.name.startswith("FLOAT"):
        return float_info(numpy_dtype).eps
    return 2.0 ** (1 - dtype.bitwidth)
