"""Cases for other processes: models whose inputs and outputs are float32, so that no numpy needs to know bfloat16."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from rms_deploy.ops.contract import ADD_FLOAT32_RMS_NORM, OPS, Op, reciprocal
from rms_deploy.ops.reference import outputs_of

from ..kernels.cuda import cases
from ..kernels.cuda.cases import assert_same, is_decided
from .one_node import assert_close, assert_gated_close, assert_shifted_close, node_model, op_inputs, scale_type

Case = tuple[onnx.ModelProto, dict[str, Any], dict[str, Any]]
"""Model, inputs, and the outputs that the reference gives."""

TYPES = [("float32", "float32"), ("float16", "float32"), ("float16", "float16"), ("bfloat16", "bfloat16")]
_PARTIAL_SIZE = 17
VIEWS = [((9, 131), [1]), ((200, 256), [1]), ((37, 60), [1]), ((2, 33, 270), [1])]


def behind_casts(model: onnx.ModelProto) -> onnx.ModelProto:
    """The node of `model` with float32 inputs and outputs, cast to and from its own types."""
    node, graph = model.graph.node[0], model.graph
    into = [helper.make_node("Cast", [f"{v.name}_in"], [v.name], to=v.type.tensor_type.elem_type) for v in graph.input]
    out = [helper.make_node("Cast", [v.name], [f"{v.name}_out"], to=TensorProto.FLOAT) for v in graph.output]
    inputs = [helper.make_tensor_value_info(f"{v.name}_in", TensorProto.FLOAT, None) for v in graph.input]
    outputs = [helper.make_tensor_value_info(f"{v.name}_out", TensorProto.FLOAT, None) for v in graph.output]
    known = [*graph.input, *graph.output]
    wrapped = helper.make_graph([*into, node, *out], graph.name, inputs, outputs, value_info=known)
    return helper.make_model(wrapped, opset_imports=model.opset_import, ir_version=8)


def case(
    op: Op, types: tuple[str, str], shape: tuple[int, ...], axes: list[int], order: str, sum_type: str | None = None
) -> Case:
    """`order` of rounding: float32 (the scale is applied in it), T or reciprocal."""
    op = reciprocal(op) if order == "reciprocal" else op
    inputs = op_inputs(op, shape, shape[1:2] + (1,) * (len(shape) - 2), types, sum_type)
    if types[0] == "float32":
        inputs["X"][0] *= np.float32(1e30)  # a row, or half the columns, that goes through float64
    attributes: dict[str, Any] = {"axes": axes, "scale_type": scale_type(types[0], order != "float32")}
    if op.is_partial:
        attributes["partial_size"] = _PARTIAL_SIZE
    expected = outputs_of(op, inputs, **attributes)
    names = [name for name, _ in op.outputs]
    return node_model(op.name, inputs, **attributes), inputs, dict(zip(names, expected, strict=True))


def assert_expected(case: Case, actual: dict[str, Any], *, on_gpu: bool = False) -> None:
    """`actual` is what the reference gives, up to the rounding that the contract leaves open."""
    model, inputs, expected = case
    op = model.graph.node[0].op_type
    rounds_first = any(a.name == "scale_type" and a.i != TensorProto.FLOAT for a in model.graph.node[0].attribute)
    if OPS[op].is_reciprocal:
        partial = {"partial_size": _PARTIAL_SIZE} if OPS[op].is_partial else {}
        normalised = expected.get("Sum", inputs["X"]).astype(inputs["X"].dtype)
        assert_same(actual["Y"], expected["Y"], is_decided(normalised, 1, **partial))
    elif OPS[op].is_gated and on_gpu:
        cases.assert_close(actual["Y"], expected["Y"], round_before_scale=rounds_first, is_gated=True)
    elif OPS[op].is_gated:
        assert_gated_close(actual["Y"], expected["Y"], round_before_scale=rounds_first)
    elif OPS[op].is_shifted:
        order = {"round_before_scale": rounds_first, "on_gpu": on_gpu}
        assert_shifted_close(actual["Y"], expected["Y"], inputs["shift"], **order)
    else:
        assert_close(actual["Y"], expected["Y"], round_before_scale=rounds_first, on_gpu=on_gpu)
    assert "Sum" not in expected or actual["Sum"].tobytes() == expected["Sum"].tobytes()


def all_cases() -> dict[str, Case]:
    return {
        f"{op.name}-{'-'.join((*types, sum_type or ''))}-{len(shape)}d-{shape[0]}-{order}": case(
            op, types, shape, axes, order, sum_type
        )
        for op in OPS.values()
        if not op.is_reciprocal and not op.is_quantized
        for types in TYPES
        for sum_type in ((types[0], "float32") if op.is_add and types[0] != "float32" else (None,))
        for shape, axes in (VIEWS if _takes_any_axes(op, types[0], sum_type) else VIEWS[:3])
        for order in ("float32", "T", "reciprocal")[: _orders(op, types[0])]
    }


def _takes_any_axes(op: Op, x_type: str, sum_type: str | None) -> bool:
    is_plain = not op.is_gated and not op.is_shifted and op.prologue != ADD_FLOAT32_RMS_NORM.prologue
    return is_plain and sum_type in (None, x_type)


def _orders(op: Op, x_type: str) -> int:
    return 1 if x_type == "float32" else 3 if reciprocal(op).name in OPS else 2


def write_cases(
    folder: Path, cases: dict[str, Case], prepare: Callable[[onnx.ModelProto], onnx.ModelProto] = behind_casts
) -> None:
    folder.mkdir()
    for name, (model, inputs, _) in cases.items():
        onnx.save(prepare(model), folder / f"{name}.onnx")
        np.savez(folder / f"{name}.npz", **{f"{k}_in": a.astype(np.float32) for k, a in inputs.items()})


def run_cases(folder: Path, library: Path | None, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    script = str(Path(__file__).with_name("run_models.py"))
    command = [sys.executable, script, str(folder), *([] if library is None else [str(library)])]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def results(folder: Path, name: str, expected: dict[str, Any]) -> dict[str, Any]:
    """The outputs that `run_cases` wrote, in the dtypes of `expected`; the casts to float32 were exact."""
    with np.load(folder / f"{name}.out.npz") as out:
        return {key: out[f"{key}_out"].astype(array.dtype) for key, array in expected.items()}


__all__ = ["all_cases", "assert_expected", "behind_casts", "results", "run_cases", "write_cases"]
