"""A model on ONNX Runtime, whatever its element types, and whether two results are the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from .evaluator import Arrays, noise

__all__ = ["differs", "load", "run"]

_LEVEL = ort.GraphOptimizationLevel


def load(path: Path, *, library: Path | None, optimize: bool) -> ort.InferenceSession:
    """A session on the CPU, one thread; raises what ONNX Runtime raises."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = _LEVEL.ORT_ENABLE_ALL if optimize else _LEVEL.ORT_DISABLE_ALL
    if library is not None:
        options.register_custom_ops_library(str(library))
    return ort.InferenceSession(str(_with_float_ends(path)), options, providers=["CPUExecutionProvider"])


def _with_float_ends(path: Path) -> Path:
    """A model that takes or gives bfloat16, which its Python interface does not, with Casts at the ends."""
    if TensorProto.BFLOAT16 not in _end_types(path):
        return path
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    owned = {tensor.name for tensor in graph.initializer}
    first, last = [], []
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type != TensorProto.BFLOAT16 or value.name in owned:
            continue
        inner, outer = value.name, f"{value.name}_end"
        value.name, value.type.tensor_type.elem_type = outer, TensorProto.FLOAT
        if any(value is end for end in graph.input):
            first.append(helper.make_node("Cast", [outer], [inner], to=TensorProto.BFLOAT16))
        else:
            last.append(helper.make_node("Cast", [inner], [outer], to=TensorProto.FLOAT))
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
    wrapped = path.with_name(f"ends_{path.name}")
    wrapped.write_bytes(model.SerializeToString())
    return wrapped


def _end_types(path: Path) -> set[int]:
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # ONNX Runtime is to say what is wrong with it
        return set()
    return {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}


def run(session: ort.InferenceSession, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
    """All outputs by name; what was bfloat16 comes as float32."""
    given = {}
    for value in session.get_inputs():
        name = value.name.removesuffix("_end")
        if name in feeds:
            array = feeds[name]
            given[value.name] = array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array
    names = [output.name for output in session.get_outputs()]
    results = session.run(names, given)
    return {name.removesuffix("_end"): np.asarray(array) for name, array in zip(names, results, strict=True)}


def _has_bodies(path: Path) -> bool:
    nodes = onnx.load(path, load_external_data=False).graph.node
    return any(attribute.HasField("g") for node in nodes for attribute in node.attribute)


def differs(
    actual: Arrays, expected: Arrays, *, original: Path, feeds: Mapping[str, NDArray[Any]], element: np.dtype[Any]
) -> str:
    """Why the results are not the same, or nothing.

    Within 8 eps of the largest element of its row, an element is equal: a norm in another order of rounding is off by
    4. Beyond that, the original is run with noise of one eps after every operator: 16 times what this moves is equal.
    No noise gets into the bodies of Loop, Scan and If: where there are some, 64 eps are equal too; 17 were seen
    where only a body rounds in another order. So they are where the evaluator has not every operator.
    """
    if list(actual) != list(expected):
        return f"outputs are {list(actual)}, were {list(expected)}"
    eps = float(ml_dtypes.finfo(element).eps)
    allowed: Arrays | None = None
    for name, right in expected.items():
        if actual[name].dtype != right.dtype:
            return f"an output is {actual[name].dtype}, was {right.dtype}"
        if actual[name].shape != right.shape:
            return f"the shape of an output is {actual[name].shape}, was {right.shape}"
        a, e = actual[name].astype(np.float64), right.astype(np.float64)
        size = np.where(np.isfinite(e), np.abs(e), 0)
        row = size.max(axis=-1, keepdims=True, initial=0) if e.ndim else size
        if _within(a, e, 8 * eps * row):
            continue
        if allowed is None:
            try:
                allowed = noise(original, feeds)
            except Exception:  # the evaluator has not every operator
                allowed = {}
        least = 64 if name not in allowed or _has_bodies(original) else 8
        if not _within(a, e, least * eps * row + 16 * allowed.get(name, 0)):
            worst = np.nanmax(np.abs(a - e) / (row + 1e-30), initial=0)
            return f"an output is off by {worst:.1e} of the largest element of its row"
    return ""


def _within(a: NDArray[Any], e: NDArray[Any], tolerance: Any) -> bool:
    with np.errstate(all="ignore"):
        same = (
            (a == e)
            | (np.isnan(a) & np.isnan(e))
            | (np.abs(a - e) <= tolerance)
            | np.isinf(e)
            | (np.isnan(e) & ~np.isfinite(a))
        )
    return bool(np.all(same))
