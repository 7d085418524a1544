"""Each reason why a norm finds no plugin."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.engine.plugin_faults import plugin_faults

NORM = "rms_deploy.RMSNorm"


def model(node, x="float", scale="float"):
    text = f"""<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1, "own" : 1, "trt.plugins" : 1]>
    g ({x}[b, 64] X, {scale}[64] scale) => ({x}[b, 64] Y) {{ Y = {node} (X, scale) }}"""
    return onnx.parser.parse_model(text)


@pytest.mark.parametrize(
    ("node", "types", "fault"),
    [
        ("rms_deploy.Norm", (), "name: there is no such plugin; the library has RMSNorm, PartialRMSNorm, AddRMSNorm"),
        (f'{NORM} <plugin_version = "2">', (), "version: plugin_version is '2'; the library has '1'"),
        (f'{NORM} <plugin_namespace = "mine">', (), "namespace: is 'mine'; the plugin's is 'rms_deploy'"),
        ("own.RMSNorm", (), "namespace: is 'own'; the plugin's is 'rms_deploy'"),
        ('trt.plugins.RMSNorm <plugin_namespace = "mine">', (), "namespace: is 'mine'"),
        (NORM, ("int32", "int32"), "type: X is int32; the plugin takes float32, float16, bfloat16"),
        (NORM, ("float16", "bfloat16"), "scale is bfloat16 and X float16; the plugin takes float16 or float32 here"),
        (NORM, ("float", "float16"), "type: scale is float16 and X float32; the plugin takes float32 here"),
    ],
)  # fmt: skip
def test_each_fault_is_named(node, types, fault):
    (found, *_) = plugin_faults(ir.from_proto(model(node, *types)))
    assert fault in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("node", "types"),
    [
        (NORM, ()),
        (NORM, ("float16", "float")),
        (NORM, ("double", "double")),
        (f'{NORM} <plugin_version = "1", plugin_namespace = "rms_deploy">', ()),
        ('trt.plugins.RMSNorm <plugin_version = "1", plugin_namespace = "rms_deploy">', ()),
        ("own.Other", ()),
        ("Mul", ()),
    ],
)
def test_no_fault(node, types):
    assert not list(plugin_faults(ir.from_proto(model(node, *types))))


def of_several(op, types, given=""):
    """Inputs of `types`, X first."""
    inputs = ", ".join(f"{dtype}[64] i{index}" for index, dtype in enumerate(types))
    names = ", ".join(f"i{index}" for index in range(len(types)))
    text = f"""<ir_version: 9, opset_import: ["" : 20, "rms_deploy" : 1]>
    g ({inputs}) => (float[64] Y) {{ n = rms_deploy.{op} {given} ({names}) Y = Cast <to = 1> (n) }}"""
    return ir.from_proto(onnx.parser.parse_model(text))


@pytest.mark.parametrize(
    ("op", "types", "fault"),
    [
        ("AddFloat32RMSNorm", ("float16", "bfloat16", "float"), "R is bfloat16 and X float16; the plugin takes"),
        ("AddRMSNorm", ("float", "float16", "float"), "R is float16 and X float32; the plugin takes float32 here"),
        ("RMSNormSiluGate", ("float16", "float", "float"), "Z is float32 and X float16; the plugin takes float16 here"),
        ("RMSNormShift", ("float16", "float", "float16"), "shift is float16 and scale float32; the plugin takes one"),
        ("RMSNormShift", ("float16", "float16", "bfloat16"), "shift is bfloat16 and X float16; the plugin takes"),
    ],
)  # fmt: skip
def test_the_types_of_other_inputs(op, types, fault):
    (found,) = plugin_faults(of_several(op, types))
    assert f"type: {fault}" in found


@pytest.mark.parametrize(
    ("op", "types", "given"),
    [
        ("AddRMSNorm", ("float16", "float", "float16"), ""),
        ("AddFloat32RMSNorm", ("bfloat16", "float", "float"), ""),
        ("RMSNormShift", ("float16", "float", "float"), ""),
        ("AddRMSNormQuantize", ("float16", "float", "float16"), "<y_scale = 0.5, output_dtype = 3>"),
    ],
)
def test_a_residual_and_a_shift_may_be_float32(op, types, given):
    assert not list(plugin_faults(of_several(op, types, given)))
