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
