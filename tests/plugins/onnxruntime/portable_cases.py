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

from rms_deploy.ops.reference import add_rms_norm, rms_norm

from .one_node import node_model, samples, scale_type, weights

Case = tuple[onnx.ModelProto, dict[str, Any], dict[str, Any]]
"""Model, inputs, and the outputs that the reference gives."""

TYPES = [("float32", "float32"), ("float16", "float32"), ("float16", "float16"), ("bfloat16", "bfloat16")]
VIEWS = [((9, 131), [1]), ((200, 256), [1]), ((2, 33, 270), [1])]


def behind_casts(model: onnx.ModelProto) -> onnx.ModelProto:
    """The node of `model` with float32 inputs and outputs, cast to and from its own types."""
    node, graph = model.graph.node[0], model.graph
    into = [helper.make_node("Cast", [f"{v.name}_in"], [v.name], to=v.type.tensor_type.elem_type) for v in graph.input]
    out = [helper.make_node("Cast", [v.name], [f"{v.name}_out"], to=TensorProto.FLOAT) for v in graph.output]
    inputs = [helper.make_tensor_value_info(f"{v.name}_in", TensorProto.FLOAT, None) for v in graph.input]
    outputs = [helper.make_tensor_value_info(f"{v.name}_out", TensorProto.FLOAT, None) for v in graph.output]
    wrapped = helper.make_graph([*into, node, *out], graph.name, inputs, outputs)
    return helper.make_model(wrapped, opset_imports=model.opset_import, ir_version=8)


def case(op: str, types: tuple[str, str], shape: tuple[int, ...], axes: list[int], round_before_scale: bool) -> Case:
    x = samples(shape, types[0])
    if types[0] == "float32":
        x[0] *= np.float32(1e30)  # a row, or half the columns, that goes through float64
    scale = weights(shape[1:2] + (1,) * (len(shape) - 2), types[1])
    inputs = {"X": x, "scale": scale}
    options: dict[str, Any] = {"axes": axes}
    attributes = {"scale_type": scale_type(types[0], round_before_scale)}
    if op == "AddRMSNorm":
        inputs = {"X": x, "R": samples(shape, types[0], seed=5), "scale": scale}
        y, total = add_rms_norm(x, inputs["R"], scale, round_before_scale=round_before_scale, **options)
        expected = {"Y": y, "Sum": total}
    else:
        options |= {"partial_size": 17} if op == "PartialRMSNorm" else {}
        expected = {"Y": rms_norm(x, scale, round_before_scale=round_before_scale, **options)}
    return node_model(op, inputs, **options, **attributes), inputs, expected


def all_cases() -> dict[str, Case]:
    return {
        f"{op}-{'-'.join(types)}-{len(shape)}d-{shape[0]}-{'T' if first else 'float32'}": case(
            op, types, shape, axes, first
        )
        for op in ("RMSNorm", "PartialRMSNorm", "AddRMSNorm")
        for types in TYPES
        for shape, axes in VIEWS
        for first in ((False, True) if types[0] != "float32" else (False,))
    }


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


__all__ = ["all_cases", "behind_casts", "results", "run_cases", "write_cases"]
