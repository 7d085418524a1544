"""How large the float32 values of a model are: its weights, and what it computes for sample inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.conversion.type_rules import touches_float32
from rms_deploy.errors import InputError
from rms_deploy.onnx_model.upcast import Upcast
from rms_deploy.ops.narrow import MASK
from rms_deploy.ops.nodes import all_graphs
from rms_deploy.runtime import onnxruntime_session as runtime
from rms_deploy.verification.candidates import CandidateRun
from rms_deploy.verification.wide import lacks_functions

__all__ = ["largest_values", "out_of_range"]

_HEADROOM: Final = 4.0
"""How far below the largest number of the half type a value stays: samples are few, and other inputs give more."""

_PROBE: Final = "rms_deploy_largest_{}"


def out_of_range(
    model: ir.Model, largest: Mapping[str, float], to: ir.DataType, *, keep_io: bool
) -> dict[ir.Node, str]:
    """The nodes that read or give a value whose largest number is beyond the range of `to`, and why.

    In range is what lies between the smallest normal number and a quarter of the largest number. All zero is in range.

    Args:
        model: in float32.
        largest: the largest absolute number of each value, by name.
        to: FLOAT16 or BFLOAT16.
        keep_io: inputs and outputs stay in float32, and may be large.

    Raises:
        InputError: an input or an output is too large.
    """
    info = ml_dtypes.finfo(to.numpy())  # type: ignore[no-untyped-call]  # ml_dtypes leaves it untyped
    low, high = float(info.smallest_normal), float(info.max) / _HEADROOM
    for end in () if keep_io else (*model.graph.inputs, *model.graph.outputs):
        if end.dtype == ir.DataType.FLOAT and (size := largest.get(end.name or "", 0.0)) > high:
            raise InputError(
                f"{end.name} has at most {size:.2g} for the sample inputs, over {high:.3g}: too much for an input or "
                f"output in {to.name.lower()}; use `keep_io=True`, or `inputs` that are yours"
            )
    kept = {}
    for node in (node for graph in all_graphs([model.graph]) for node in graph if touches_float32(node)):
        for value in (*node.inputs, *node.outputs):
            size = 0.0 if value is None or value.name is None else largest.get(value.name, 0.0)
            if value is not None and size and not low <= size <= high:
                what = f"over {high:.3g}" if size > high else f"under {low:.2g}"
                kept[node] = f"{value.name} has at most {size:.2g}, {what}"
                break
    return kept


def largest_values(model: ir.Model, samples: Iterable[Mapping[str, NDArray[Any]]]) -> dict[str, float]:
    """The largest absolute number of each float32 value of the main graph, and of each weight; masks do not count.

    A value of a body cannot be seen from outside, and is not among them.

    Args:
        model: in float32, its norms fused or not; it is not changed.
        samples: inputs.

    Raises:
        RunError: ONNX Runtime refuses the model, or a kernel fails.
    """
    largest = {
        name: _largest(value.const_value.numpy())
        for graph in all_graphs([model.graph])
        for name, value in graph.initializers.items()
        if value.const_value is not None and value.const_value.dtype == ir.DataType.FLOAT
    }
    probed = model.clone()
    names = _probe(probed)
    if not names:
        return largest
    Upcast(ir.DataType.FLOAT)(probed)  # ONNX Runtime's CPU provider has few kernels for what is in a half type already
    session = runtime.session(probed, optimize=False, library=lacks_functions(probed))
    for feeds in samples:
        for name, array in feeds.items():
            if array.dtype == np.float32:
                largest[name] = max(largest.get(name, 0.0), _largest(array))
        results = CandidateRun(partial(runtime.run, session), "", ir.DataType.FLOAT)(feeds)
        for index, name in enumerate(names):
            largest[name] = max(largest.get(name, 0.0), float(results[_PROBE.format(index)]))
    return largest


def _largest(array: NDArray[Any]) -> float:
    sizes = np.abs(array)
    return float(np.max(sizes, initial=0.0, where=sizes < MASK))


def _probe(model: ir.Model) -> list[str]:
    """Make outputs of the largest absolute numbers in place of the outputs of `model`; the names of the values."""
    graph = model.graph
    values = [v for node in graph for v in node.outputs if v.dtype == ir.DataType.FLOAT and v.name]
    bound, zero = (
        ir.val(f"rms_deploy_{name}", const_value=ir.tensor(np.float32(x), name=f"rms_deploy_{name}"))
        for name, x in (("bound", MASK), ("zero", 0.0))
    )
    graph.register_initializer(bound)
    graph.register_initializer(zero)
    graph.outputs.clear()
    for index, value in enumerate(values):
        size = ir.node("Abs", [value])
        counts = ir.node("Less", [size.outputs[0], bound])
        counted = ir.node("Where", [counts.outputs[0], size.outputs[0], zero])
        most = ir.node("ReduceMax", [counted.outputs[0]], {"keepdims": 0})
        graph.extend([size, counts, counted, most])
        result = most.outputs[0]
        for step, node in enumerate((size, counts, counted)):
            node.outputs[0].name = f"{_PROBE.format(index)}_{step}"
        result.name, result.type = _PROBE.format(index), ir.TensorType(ir.DataType.FLOAT)
        result.shape = ir.Shape(())
        graph.outputs.append(result)
    return [value.name or "" for value in values]
