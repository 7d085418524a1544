"""The numbers a case must give, and how near to them a fused model must come.

Nothing here knows how a fuser works: a model goes in, arrays come out.
"""

from __future__ import annotations

import warnings
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.helper
import onnx.reference
import onnxruntime as ort

from .case import Case

__all__ = ["deviation", "evaluate", "expected", "feeds_of", "half_types", "run_unoptimised"]

_DIMS = {"b": 3, "s": 5}
_HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def feeds_of(case: Case, seed: int = 0) -> dict[str, Any]:
    """Random numbers with an outlier channel, rows of magnitudes on both sides of the epsilon, and a zero row."""
    generator = np.random.default_rng(seed)
    feeds = {name: np.asarray(value) for name, value in case.feeds.items()}
    model = case.model()
    for value in model.graph.input:
        if value.name in case.overridable or value.name in feeds:
            continue
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        shape = [_size(case, dim) for dim in tensor.shape.dim]
        if not tensor.HasField("shape"):
            shape = [3, 5, 8]
        if dtype.kind == "b":
            feeds[value.name] = np.ones(shape, dtype)
            continue
        if dtype.kind in "iu":
            feeds[value.name] = generator.integers(1, 3, shape).astype(dtype)
            continue
        array = generator.standard_normal(shape)
        if len(shape) > 1:
            array[..., 0] *= 5
            array *= 10.0 ** generator.integers(-3, 2, [*shape[:-1], 1])
            if case.zero_row:
                array.reshape(-1, shape[-1])[-1] = 0
        feeds[value.name] = np.asarray(array).astype(dtype)
    return feeds


def _size(case: Case, dim: onnx.TensorShapeProto.Dimension) -> int:
    if dim.HasField("dim_value"):
        return dim.dim_value
    return {**_DIMS, **case.dims}.get(dim.dim_param, 2)


def run_unoptimised(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    """ONNX Runtime, no optimisation, no library of ours."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def evaluate(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    """onnx's own evaluator; ONNX Runtime where an op is not ONNX's."""
    nodes = [*_nodes(model.graph), *(node for function in model.functions for node in function.node)]
    foreign = {node.domain for node in nodes} - {"", "ai.onnx"} - {f.domain for f in model.functions}
    natives = any(node.op_type == "SimplifiedLayerNormalization" for node in nodes)
    if foreign or natives:
        return run_unoptimised(model, feeds)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a division by a zero row is part of the cases
        return list(onnx.reference.ReferenceEvaluator(model).run(None, feeds))


def _nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    nodes = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                nodes += _nodes(attribute.g)
    return nodes


def expected(case: Case, feeds: dict[str, Any]) -> list[Any]:
    """The truth: the stated formula, or what the original graph gives when no optimiser has touched it."""
    return case.formula(feeds) if case.formula else evaluate(case.model(), feeds)


def half_types(model: onnx.ModelProto) -> bool:
    """Whether a half type goes in, comes out or is cast to on the way."""
    casts = any(
        attribute.i in _HALF
        for node in _nodes(model.graph)
        if node.op_type == "Cast"
        for attribute in node.attribute
        if attribute.name == "to"
    )
    return casts or any(
        value.type.tensor_type.elem_type in _HALF for value in (*model.graph.input, *model.graph.output)
    )


def deviation(actual: list[Any], truth: list[Any], *, cancels: bool = False, ulps: float = 8) -> str:
    """Where `actual` is not `truth`; empty if it is.

    float32 and float64: `ulps` eps of the element's own size. A norm is a sum of positive squares, which numpy and a
    kernel add in another order (n <= 128: under 2 eps, halved by the root), a mean, an epsilon, a root, a reciprocal
    and two products, each rounded once: under 4 eps on either side, so 8 between the two.

    float16 and bfloat16: those errors are far below one ulp. They change an element only where they cross a rounding
    boundary: by one ulp before the scale, two after it, and in few elements (2 %); the wrong order of rounding and
    scaling changes about a quarter of them.

    `cancels`: as above, relative to the largest element.
    """
    if len(actual) != len(truth):
        return f"{len(actual)} outputs for {len(truth)}"
    for number, (a, e) in enumerate(zip(map(np.asarray, actual), map(np.asarray, truth), strict=True)):
        if a.dtype != e.dtype or a.shape != e.shape:
            return f"output {number}: {a.dtype}{list(a.shape)}, not {e.dtype}{list(e.shape)}"
        if a.dtype.kind in "iub":
            if not np.array_equal(a, e):
                return f"output {number}: other integers"
            continue
        wide_a, wide_e = a.astype(np.float64), e.astype(np.float64)
        special = ~np.isfinite(wide_e)
        if not np.array_equal(wide_a[special], wide_e[special], equal_nan=True):
            return f"output {number}: other NaN or infinity"
        if not np.isfinite(wide_a[~special]).all():
            return f"output {number}: NaN or infinity for a finite number"
        half = a.dtype.itemsize == 2
        eps = float(ml_dtypes.finfo(a.dtype).eps)
        tiny = float(ml_dtypes.finfo(a.dtype).smallest_subnormal)
        error = np.abs(wide_a - wide_e)[~special]
        # eps of the number's own binade is at most eps * |number|, and two ulp of it at most 2 eps * |number|
        size = np.abs(wide_e[~special])
        unit = np.maximum(eps * (size.max(initial=0) if cancels else size), tiny)
        limit = (2 if half else ulps) * unit
        if (error > limit).any():
            worst = float((error / unit).max())
            return f"output {number}: off by {worst:.3g} eps in {int((error > limit).sum())} of {error.size}"
        if half and np.count_nonzero(error) > max(1, error.size // 50):
            return f"output {number}: {np.count_nonzero(error)} of {error.size} elements are rounded otherwise"
    return ""
