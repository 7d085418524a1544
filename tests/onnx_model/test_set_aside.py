"""Weights leave a model and come back; no file is read by others meanwhile."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

from rms_deploy.onnx_model.set_aside import SetAside

TEXT = """
    <ir_version: 8, opset_import: ["" : 18]>
    g (float[512] x, bool c, float[512] given) => (float[512] y) <float[512] given, float[1] small = {2}> {
        k = Constant <value = float[1] t {1}> ()
        a = Mul (x, k) h = Mul (a, big) f = Mul (h, given)
        y = If (c) <then_branch = t () => (float[512] ty) { ty = Add (f, big_2) },
                    else_branch = e () => (float[512] ey) { ey = Mul (f, small) }>
    }
"""
WEIGHT = np.arange(512, dtype=np.float32)


def model() -> ir.Model:
    proto = onnx.parser.parse_model(TEXT)
    del proto.graph.initializer[:]
    for name, array in (("given", WEIGHT), ("small", np.float32([2])), ("big", WEIGHT)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    branch = next(a.g for a in proto.graph.node[-1].attribute if a.name == "then_branch")
    branch.initializer.append(onnx.numpy_helper.from_array(-WEIGHT, "big_2"))
    return ir.from_proto(proto)


def test_large_weights_are_inputs_and_come_back() -> None:
    given = model()
    before = {name: value.const_value for name, value in given.graph.initializers.items()}
    aside = SetAside(given)
    assert [value.name for value in given.graph.inputs] == ["x", "c", "given", "big", "big_2"]
    assert list(given.graph.initializers) == ["small"]
    proto = ir.to_proto(given)
    onnx.checker.check_model(proto, full_check=True)
    new = ir.from_proto(proto)
    aside.put_back(new)
    assert [value.name for value in new.graph.inputs] == ["x", "c", "given"]
    assert new.graph.initializers["big"].const_value is before["big"]
    assert new.graph.initializers["given"].const_value is before["given"]
    tensor = new.graph.initializers["big_2"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), -WEIGHT)
    onnx.checker.check_model(ir.to_proto(new), full_check=True)


def test_external_tensors_never_leave_for_onnx(tmp_path) -> None:
    (tmp_path / "data.bin").write_bytes(np.float32([3, 4]).tobytes())
    given = model()

    def external(name: str, offset: int) -> ir.ExternalTensor:
        return ir.ExternalTensor(
            "data.bin", offset, 4, ir.DataType.FLOAT, shape=ir.Shape([1]), name=name, base_dir=tmp_path
        )

    given.graph.initializers["small"].const_value = external("small", 0)
    given.graph[0].attributes["value"] = ir.AttrTensor("value", external("t", 4))
    aside = SetAside(given)
    assert b"data.bin" not in ir.to_proto(given).SerializeToString()
    assert given.graph[0].attributes["value"].as_tensor().numpy().tolist() == [4]
    aside.put_back(given)
    assert isinstance(given.graph.initializers["small"].const_value, ir.ExternalTensor)
