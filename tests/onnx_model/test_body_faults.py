"""Which bodies do not fit the model around them."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.body_faults import body_faults
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.functions import attach_functions


def fused(opset=20):
    model = ir.from_onnx_text(f"""<ir_version: 9, opset_import: ["": {opset}, "rms_deploy": 1]>
    g (float[b,4,8] x, float[4,1] v, float[8] w) => (float[b,4,8] y) <float[b,4,8] n> {{
        n, s = rms_deploy.AddRMSNorm <axes = [1]> (x, x, v)
        y = rms_deploy.RMSNorm (n, w)
    }}""")
    attach_functions(model)
    return model


def faults(model):
    return [fault for _, fault in body_faults(model, Facts(model)).items()]


def in_float16(model):
    for value in (*model.graph.inputs, *(v for node in model.graph for v in node.outputs)):
        value.dtype = ir.DataType.FLOAT16


@pytest.mark.parametrize("opset", [13, 17, 18, 23])
def test_a_body_as_it_was_written(opset):
    assert faults(fused(opset)) == []


def test_none():
    model = fused()
    model.functions.clear()
    assert faults(model) == ["no body", "no body"]


def test_another_opset():
    model = fused()
    model.opset_imports[""] = 21
    assert faults(model) == 2 * ["a body of opset 20 in a model of opset 21"]


def test_an_opset_that_changes_nothing_of_the_body():
    model = fused(21)
    model.opset_imports[""] = 22
    assert faults(model) == []


def test_another_type_and_a_body_for_all_types():
    model = fused()
    in_float16(model)
    assert faults(model) == []


def test_another_type_and_a_body_for_one_type():
    """As they were written before, and are below opset 15."""
    model = fused(14)
    in_float16(model)
    assert faults(model) == 2 * ["a body that does not take float16"]


@pytest.mark.parametrize("axes", [[], [-(2**40)], [2**40]])
def test_axes_that_no_tensor_has(axes):
    model = fused()
    model.graph[0].attributes["axes"] = ir.AttrInt64s("axes", axes)
    assert set(faults(model)) <= {"a body that does not take float32"}


def test_an_opset_that_onnx_does_not_know():
    model = fused()
    model.opset_imports[""] = 900
    assert faults(model) == []


TYPES = {"T": "float16", "S": "float", "U": "float", "Q": "float8e4m3fn"}
REQUIRED = {"partial_size": "4", "y_scale": "0.5", "output_dtype": "17"}


def one_norm(op):
    """Of types that differ where they may."""
    inputs, outputs = (
        ", ".join(f"{TYPES[kind]}[{'8' if kind == 'S' else 'b,8'}] {name}" for name, kind in ends)
        for ends in (op.inputs, op.outputs)
    )
    names = ", ".join(name for name, _ in op.inputs)
    needed = [f"{a.name} = {REQUIRED[a.name]}" for a in op.attributes if a.default is None]
    given = ", ".join(["epsilon = 0.01", *needed])
    call = f"{', '.join(name for name, _ in op.outputs)} = rms_deploy.{op.name} <{given}> ({names})"
    model = ir.from_onnx_text(
        f'<ir_version: 9, opset_import: ["": 20, "rms_deploy": 1]>\ng ({inputs}) => ({outputs}) {{ {call} }}'
    )
    attach_functions(model)
    return model


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_every_op_has_a_valid_body(op):
    assert faults(one_norm(op)) == []


def test_a_norm_that_is_quantised_needs_two_bodies():
    model = one_norm(OPS["AddRMSNormQuantize"])
    del model.functions["rms_deploy", "AddRMSNorm", ""]
    assert faults(model) == ["no body"]


def test_a_type_that_the_opset_does_not_quantise_to():
    model = one_norm(OPS["RMSNormQuantize"])
    for of in (model, *model.functions.values()):
        of.opset_imports[""] = 18
    assert faults(model) == ["a body that does not take float16, float32"]
