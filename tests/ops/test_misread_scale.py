"""Which bodies ONNX Runtime would fuse wrongly, held against ONNX Runtime itself."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest

from rms_deploy.ops.misread_scale import MISREAD, is_misread, misread


@pytest.mark.parametrize(
    ("x", "scale", "axes", "expected"),
    [
        ((3, 8), (8,), (-1,), False),
        ((3, 8), (), (-1,), False),
        ((3, 8), (1,), (-1,), True),
        ((3, "n"), (1,), (-1,), True),
        ((3, 1), (1,), (-1,), False),
        ((3, 8), (1,), (0,), False),
        ((3, 8), (1, 8), (-1,), False),
        ((3, 8), (3, 8), (-1,), False),
        ((3, 8), (3, 1), (-1,), False),
        ((2, 1, 8), (2, 1, 8), (-1,), False),
        ((8,), (8,), (-1,), False),
        ((8,), (), (-1,), True),
        ((8,), (), (0,), True),
        ((8,), (1, 1), (-1,), True),
        ((8,), None, (-1,), True),
        ((2, 0), (0,), (-1,), True),
        ((0, 8), (8,), (-1,), False),
        ((4, 8), (), (-2, -1), False),
        ((0, 0), (), (-2, -1), False),
        (None, (), (-1,), False),
        (None, (1,), (-1,), True),
        (None, (0,), (-1,), True),
        (None, (), (1,), True),
        (None, (), (1, 2), False),
    ],
)
def test_what_is_misread(x, scale, axes, expected) -> None:
    assert misread(x, scale, axes) is expected


@pytest.mark.parametrize("square", ["Pow (x, two)", "Mul (x, x)"])
@pytest.mark.parametrize(
    ("x", "scale"), [((3, 8), (8,)), ((3, 8), ()), ((8,), (8,)), ((8,), ()), ((8,), (1, 1)), ((2, 0), (0,))]
)
def test_onnxruntime_does_as_it_says(x, scale, square) -> None:
    shapes = [f"float[{','.join(map(str, dims))}]" if dims else "float" for dims in (x, scale)]
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
        g ({shapes[0]} x, {shapes[1]} w) => ({shapes[0]} y)
        <float two = {{2}}, float eps = {{1e-5}}, int64[1] ax = {{-1}}> {{
            q = {square} m = ReduceMean (q, ax) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, w) }}"""
    feeds = {"x": np.ones(x, np.float32), "w": np.ones(scale, np.float32)}

    def run() -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        model = onnx.parser.parse_model(text).SerializeToString()
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, feeds)

    if square.startswith("Pow") and misread(x, scale, (-1,)):
        with pytest.raises(Exception, match=r"is not a graph input|must be (at least|larger than) 1"):
            run()
    else:
        run()


def test_of_a_node() -> None:
    x = ir.Value(name="x", shape=ir.Shape([8]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("RMSNorm", [x, ir.Value(name="w", shape=ir.Shape([]))], domain="rms_deploy")
    assert is_misread(node)
    node.meta[MISREAD] = False
    assert not is_misread(node)
